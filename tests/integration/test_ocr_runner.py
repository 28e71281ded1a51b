"""The process that starts tesseract: what it may run, and what a hostile page or program cannot."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.stage_worker.adapters.confinement import Limits
from services.stage_worker.adapters.sandbox import Sandbox
from services.stage_worker.core.document_fault import DocumentFault
from services.stage_worker.inspect import missing_walls
from tests.conftest import SAMPLES

SCAN = (SAMPLES / "scan-receipt.png").read_bytes()
PROGRAM = """#!/bin/sh
[ -f "$1" ] || exit 3
printf 'read in %s' "$4" > "$2.txt"
printf 'head\\n1\\t2\\t3\\t4\\t5\\t6\\t7\\t8\\t9\\t10\\t90\\tword\\n' > "$2.tsv"
read line 2>/dev/null < /etc/passwd && printf ' and stole' >> "$2.txt"
printf x 2>/dev/null > %(outside)s && printf ' and wrote' >> "$2.txt"
[ "$4" = bad ] && { echo "no such language" >&2; exit 1; }
exit 0
"""


@pytest.fixture(scope="module")
async def reader(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sandbox]:
    """A sandbox whose tesseract is a script that also tries to do harm."""
    home = tmp_path_factory.mktemp("tesseract")
    (home / "bin").mkdir()
    program = home / "bin" / "tesseract"
    program.write_text(PROGRAM.replace("%(outside)s", str(home / "outside")))
    program.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{home / 'bin'}:/usr/bin:/bin")
        sandbox = Sandbox(Limits(cpu_s=20), required=not missing_walls())
        await sandbox.run_action("file.identify", SCAN, {}, 60, lambda done, total: None)
    yield sandbox
    await sandbox.close()
    assert not (home / "outside").exists()


async def recognise(sandbox: Sandbox, **config: object) -> str:
    asked = {"kind": "image", "pages": [0], **config}
    found = await sandbox.run_action("text.ocr", [SCAN, b"before"], asked, 60, lambda done, total: None)
    assert found["confidence"] == 0.9
    return str(found["output"].decode())


async def test_a_page_is_read_by_the_program_alone(reader: Sandbox) -> None:
    if missing_walls():
        pytest.skip("this kernel lacks walls")
    assert await recognise(reader, languages="eng+deu") == "read in eng+deu"
    assert await recognise(reader, recognise="a word of the tenant") == "read in eng"


@pytest.mark.parametrize(
    ("languages", "code"), [("bad", "ocr_failed"), ("../../etc", "option"), ("", "option"), ("-c", "option")]
)
async def test_a_language_that_is_none_is_reported(reader: Sandbox, languages: str, code: str) -> None:
    with pytest.raises(DocumentFault) as refused:
        await recognise(reader, languages=languages)
    assert refused.value.code == code
