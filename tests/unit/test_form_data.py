"""Names of files travel as they are, from our clients and from those of others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.ingest.core.file_names import path_part
from shared.web.form_data import FormData
from tests.gateway_app import InProcess, gateway_app

ROOT = Path(__file__).parents[2]
NAMES = [
    "Meine Rechnung März (1).pdf",
    'the "final" one.pdf',
    r"back\slash.pdf",
    "100%.pdf",
    "a;b=c, 'd'.pdf",
    "请求书.pdf",
    "a%20b.pdf",
]
SHOWN = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=40)


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[InProcess]:
    async with gateway_app(tmp_path) as made:
        yield made


async def stored_name(app: InProcess, body: bytes, content_type: str, key: str) -> str:
    """The name under which the gateway stores an uploaded file."""
    async with app.http(**{"x-api-key": key, "content-type": content_type}) as http:
        answer = await http.post("/api/file/uploadfile", content=body)
    assert answer.status_code == 200, answer.text
    command: Any = app.publisher.published[-1][1]
    return str(command.file.file_name)


async def sent(app: InProcess, name: str, key: str) -> str:
    form = FormData()
    form.add_field("session_id", "s-1")
    form.add_field("file", b"hello", filename=name)
    return await stored_name(app, await form.as_bytes(), str(form.content_type), key)


async def test_a_name_is_stored_as_it_is(app: InProcess) -> None:
    key = await app.key()
    assert [await sent(app, name, key) for name in NAMES] == NAMES


@given(st.data())
@settings(max_examples=1, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_name_without_separators_and_escapes_is_stored_as_it_is(app: InProcess, data: st.DataObject) -> None:
    key = await app.key()
    for name in data.draw(st.lists(SHOWN.filter(lambda n: not set(n) & set('/\\"%')), min_size=20, max_size=20)):
        assert await sent(app, name, key) == name


WRITTEN = {
    "Meine Rechnung März (1).pdf": "Meine Rechnung März (1).pdf",
    "a%22b%0D%0Ac.pdf": 'a"bc.pdf',
    r"a\"b.pdf": 'a"b.pdf',
    r"a\\b.pdf": r"a\b.pdf",
    r"C:\fakepath\b.pdf": "b.pdf",
    r"\\server\share\b.pdf": "b.pdf",
    "../../b.pdf": "b.pdf",
}
"""As clients of others write it → as it is stored."""
FORM = (
    '--x\r\nContent-Disposition: form-data; name="session_id"\r\n\r\ns-1\r\n'
    '--x\r\nContent-Disposition: form-data; name="file"; filename="{}"\r\n\r\nhello\r\n--x--\r\n'
)


async def test_names_as_clients_of_others_write_them(app: InProcess) -> None:
    key = await app.key()
    for written, name in WRITTEN.items():
        body = FORM.format(written).encode()
        assert await stored_name(app, body, "multipart/form-data; boundary=x", key) == name, written


@pytest.mark.parametrize(
    ("name", "part"), [(r"..\..\b.pdf", "b.pdf"), ("../b.pdf", "b.pdf"), (r"a\b.pdf", "b.pdf"), (r"..", "..")]
)
def test_a_name_that_becomes_a_path_loses_every_separator(name: str, part: str) -> None:
    assert path_part(name) == part


def test_all_our_clients_make_their_forms_in_one_place() -> None:
    folders = ("cli", "stageline_kit", "examples", "benchmarks", "samples", "scripts", "shared", "services", "tests")
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    others = [str(p.relative_to(ROOT)) for p in sources if "aiohttp.FormData" in p.read_text() and p != Path(__file__)]
    assert others == []
