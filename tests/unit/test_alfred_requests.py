"""What Alfred's own clients send: nulls, a boolean `propagate_metadata`, a form called JSON. And the headers that they read."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from contracts import AddFile, CloseSession, CreateJob, FileRef, JobRequest, SessionClosed, Tenancy
from services.ingest.dialects.alfred.bodies import MAX_PROPAGATED_BYTES, Cancel, JobCreate, RemoteUpload
from services.ingest.http.download import disposition, media_type_of
from services.job_orchestrator.core.shared_metadata import with_shared_metadata
from shared import clock
from tests.gateway_app import InProcess, gateway_app

OCTETS = "application/octet-stream"


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[InProcess]:
    async with gateway_app(tmp_path) as made:
        yield made


def request(**body: Any) -> JobRequest:
    return JobCreate.model_validate({"session_id": "s-1", **body}).job_request()


@pytest.mark.parametrize("model", [JobCreate, RemoteUpload, Cancel])
def test_every_optional_member_may_be_null(model: type[JobCreate]) -> None:
    schema = model.model_json_schema()
    needed = {name: "s-1" for name in schema.get("required", ())}
    optional = [name for name in schema["properties"] if name not in needed]
    assert model.model_validate({**needed, **dict.fromkeys(optional)}) == model.model_validate(needed)
    for name in optional:
        assert {"type": "null"} in schema["properties"][name]["anyOf"], name


@pytest.mark.parametrize(
    ("sent", "read"), [(None, "normal"), ("High", "high"), (0, "low"), (1, "normal"), (2, "high"), ("2", "high"), ("low", "low")]
)
def test_priorities_by_name_and_by_number(sent: Any, read: str) -> None:
    assert request(priority=sent).priority == read


@pytest.mark.parametrize("sent", [3, -1, True, "urgent", 1.5])
async def test_an_unknown_priority_is_named(gateway: InProcess, sent: Any) -> None:
    async with gateway.http(**{"x-tagshelfapi-key": await gateway.key()}) as http:
        answer = await http.post("/api/job/create", json={"session_id": "s-1", "priority": sent})
    assert answer.status_code == 400 and answer.json()["field"] == "priority"


@pytest.mark.parametrize(
    ("sent", "each"),
    [
        (True, {"case": "42"}), ("true", {"case": "42"}), (False, None), (None, None), ("False", None), ({"own": 1}, {"own": 1}),
        ("prose", "prose"),
    ],
)  # fmt: skip
def test_metadata_for_each_file(sent: Any, each: Any) -> None:
    for name in ("propagate_metadata", "propagateMetadata"):
        assert request(metadata={"case": "42"}, **{name: sent}).propagate_metadata == each


async def test_metadata_for_each_file_has_a_limit(gateway: InProcess) -> None:
    large = {"text": "x" * MAX_PROPAGATED_BYTES}
    async with gateway.http(**{"x-tagshelfapi-key": await gateway.key()}) as http:
        answer = await http.post("/api/job/create", json={"session_id": "s-1", "metadata": large, "propagate_metadata": True})
        assert answer.status_code == 400 and answer.json()["field"] == "propagate_metadata"
        # The double answers without a job's id, so that only the command is looked at.
        await http.post("/api/job/create", json={"session_id": "s-1", "metadata": large})
    [(_, command)] = gateway.publisher.published
    assert isinstance(command, CloseSession) and command.job.propagate_metadata is None


@pytest.mark.parametrize(
    ("own", "shared", "both"),
    [
        (None, {"a": 1}, {"a": 1}), ({}, {"a": 1}, {"a": 1}), ({"a": 2}, {"a": 1, "b": 1}, {"a": 2, "b": 1}), ("prose", {"a": 1}, "prose"),
        ({"a": 2}, {}, {"a": 2}), (None, None, None), (None, "prose", "prose"), ({"a": "x" * 60_000}, {"b": "x" * 8000}, {"a": "x" * 60_000}),
    ],
)  # fmt: skip
def test_a_sessions_files_get_the_jobs_metadata(own: Any, shared: Any, both: Any) -> None:
    file, job = FileRef(file_id="f-1", file_name="a.pdf", metadata=own), JobRequest(propagate_metadata=shared)
    owner, now = Tenancy(tenant_id="acme", user_name="u"), clock.now()
    closed = SessionClosed(
        event_id="e-1", session_id="s-1", owner=owner, caused_by="c-1", occurred_at=now, job_id="j-1", job=job, files=(file,)
    )
    assert with_shared_metadata(closed, file).metadata == both
    direct = CreateJob(command_id="c-1", job_id="j-1", owner=owner, issued_at=now, job=job, files=(file,))
    assert with_shared_metadata(direct, file) is file, "other producers set the metadata of their files themselves"


@pytest.mark.parametrize(
    ("metadata", "propagate", "of_files"),
    [
        ({"a": 1}, True, [{"a": 1}] * 2), ({"a": 1}, False, [None] * 2), ({"a": 1}, None, [{"a": 1}] * 2), ([{"n": 1}, {"n": 2}], True, [{"n": 1}, {"n": 2}]),
        (None, {"a": 1}, [{"a": 1}] * 2), (None, True, [None] * 2),
    ],
)  # fmt: skip
async def test_metadata_of_remote_files(gateway: InProcess, metadata: Any, propagate: Any, of_files: list[Any]) -> None:
    body = {"urls": ["https://example.com/a.pdf", "https://example.com/b.pdf"], "metadata": metadata}
    async with gateway.http(**{"x-tagshelfapi-key": await gateway.key()}) as http:
        answer = await http.post("/api/file/upload", json={**body, "propagate_metadata": propagate, "merge": None})
    assert answer.status_code == 200, answer.text
    [(_, command)] = gateway.publisher.published
    assert isinstance(command, CreateJob) and [f.metadata for f in command.files] == of_files


@pytest.mark.parametrize("angle", [45, 720, "10"])
async def test_an_angle_is_checked_at_once(gateway: InProcess, angle: Any) -> None:
    async with gateway.http(**{"x-tagshelfapi-key": await gateway.key()}) as http:
        answer = await http.post("/api/job/create", json={"session_id": "s-1", "decompose": True, "page_rotation": angle})
    assert answer.status_code == 400 and answer.json()["field"] == "page_rotation"


SIGN_IN = "grant_type=password&username=ann&password=correct+horse+battery"


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/x-www-form-urlencoded", SIGN_IN, 200), ("application/json", SIGN_IN, 200),
        ("application/json", '{"grant_type": "password", "username": "ann", "password": "correct horse battery"}', 200),
        ("application/json", "[1]", 400), ("application/json", '"text"', 400), ("application/json", "{", 400), ("text/plain", SIGN_IN, 400),
        ("application/json", '{"grant_type": "password", "username": 1, "password": null}', 400), ("application/json", "[" * 16_000, 400),
        ("application/json", '{"grant_type": "password", "username": "\\ud800", "password": "x"}', 400), ("application/json", "", 400),
    ],
)  # fmt: skip
async def test_a_sign_in_as_a_form_and_as_json(gateway: InProcess, kind: str, body: str, status: int) -> None:
    await gateway.user("ann", "correct horse battery")
    async with gateway.http() as http:
        answer = await http.post("/token", content=body, headers={"content-type": kind, "authorization": "Bearer undefined"})
        assert answer.status_code == status, answer.text
        assert int(answer.headers["x-ratelimit-limit"]) > 0 < int(answer.headers["x-ratelimit-remaining"])
        if status == 200:
            bearer = {"authorization": f"Bearer {answer.json()['access_token']}"}
            assert (await http.get("/api/tag/all", headers=bearer)).status_code == 200


async def test_every_answer_of_the_dialect_has_its_rate(tmp_path: Path) -> None:
    async with gateway_app(tmp_path, requests_per_minute=1, signins_per_minute=1) as gateway:
        key = {"x-tagshelfapi-key": await gateway.key()}
        async with gateway.http() as http:
            answers = [
                await http.get("/api/tag/all"), await http.get("/api/nothing"), await http.get("/api/tagshelf/ping"),
                await http.get("/api/tag/all", headers=key), await http.get("/api/tag/all", headers=key),
                await http.post("/token", data={"grant_type": "password", "username": "a", "password": "b"}),
                await http.post("/token", data={"grant_type": "password", "username": "a", "password": "b"}),
            ]  # fmt: skip
    assert [a.status_code for a in answers] == [401, 404, 200, 200, 429, 400, 429]
    assert [a.headers["x-ratelimit-limit"] for a in answers] == ["1"] * 7
    assert [a.headers["x-ratelimit-remaining"] for a in answers] == ["1", "1", "1", "0", "0", "0", "0"]
    assert all(0 <= int(a.headers["x-ratelimit-reset"]) - time.time() + 1 <= 62 for a in answers)


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("invoice-1.pdf", "attachment; filename=invoice-1.pdf"), ("my file (1).pdf", 'attachment; filename="my file (1).pdf"'),
        ("März.pdf", "attachment; filename=\"Marz.pdf\"; filename*=UTF-8''M%C3%A4rz.pdf"),
        ("日本.pdf", "attachment; filename=\"file.pdf\"; filename*=UTF-8''%E6%97%A5%E6%9C%AC.pdf"),
        ('a"b;\\.pdf', "attachment; filename=\"ab;.pdf\"; filename*=UTF-8''a%22b%3B%5C.pdf"),
    ],
)  # fmt: skip
def test_names_of_downloads(name: str, header: str) -> None:
    assert disposition(name) == header


@pytest.mark.parametrize(
    ("known", "name", "sent"),
    [
        ("application/pdf", "a.bin", "application/pdf"), ("text/plain; charset=latin-1", "a.txt", "text/plain; charset=latin-1"),
        (OCTETS, "a.XLSX", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"), (None, "a.odt", "application/vnd.oasis.opendocument.text"),
        (None, "a.pdf", "application/pdf"), (OCTETS, "a.png", "image/png"), (None, "a", OCTETS), ("text/html", "a.pdf", OCTETS),
        ("image/svg+xml", "a.png", OCTETS), ("text/javascript", "a.txt", OCTETS), (None, "a.html", OCTETS), ("a/b\r\nx: y", "a.pdf", "application/pdf"),
        ("nonsense", "a.pdf", "application/pdf"), ("application/xml", "a.xml", "application/xml"),
    ],
)  # fmt: skip
def test_media_types_of_downloads(known: str | None, name: str, sent: str) -> None:
    assert media_type_of(known, name) == sent


@pytest.mark.parametrize(("sent", "kept"), [(None, None), ({}, {}), ({"a": 1}, {"a": 1})])
async def test_an_upload_whose_metadata_is_null(gateway: InProcess, sent: Any, kept: Any) -> None:
    # The Python client sends the JSON of whatever it is given, also of None.
    form = {"session_id": "s-1", "metadata": json.dumps(sent)}
    async with gateway.http(**{"x-tagshelfapi-key": await gateway.key()}) as http:
        answer = await http.post("/api/file/uploadfile", data=form, files={"file": ("a.txt", b"hello")})
    assert answer.status_code == 200, answer.text
    [(_, command)] = gateway.publisher.published
    assert isinstance(command, AddFile) and command.file.metadata == kept
