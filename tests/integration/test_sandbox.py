"""Documents in sandboxed child processes: which are read, which are refused, and which processes are killed."""

from __future__ import annotations

import asyncio
import base64
import io
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pikepdf
import pytest
from PIL import Image

from services.stage_worker.adapters.confinement import Limits
from services.stage_worker.adapters.sandbox import Sandbox
from services.stage_worker.core.document_fault import DocumentFault
from services.stage_worker.core.signature_gap import digest_around, fill_gap
from services.stage_worker.inspect import missing_walls
from tests.conftest import SAMPLES
from tests.unit.test_sign import key_file, valid


@pytest.fixture(scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    sandbox = Sandbox(Limits(memory_bytes=2 << 30, cpu_s=20))
    yield sandbox
    await sandbox.close()


async def run(sandbox: Sandbox, action: str, data: bytes | list[bytes], timeout_s: float = 60, **config: Any) -> dict[str, Any]:
    return await sandbox.run_action(action, data, config, timeout_s, lambda done, total: None)


async def fault(sandbox: Sandbox, action: str, data: bytes | list[bytes], timeout_s: float = 60, **config: Any) -> str:
    with pytest.raises(DocumentFault) as raised:
        await run(sandbox, action, data, timeout_s, **config)
    assert str(raised.value)
    return raised.value.code


KINDS = {".pdf": "pdf", ".docx": "docx", ".xlsx": "xlsx", ".eml": "email", ".png": "image"}


@pytest.mark.parametrize("path", sorted(SAMPLES.iterdir()), ids=lambda p: p.name)
async def test_every_sample_is_identified(sandbox: Sandbox, path: Any) -> None:
    found = await run(sandbox, "file.identify", path.read_bytes())
    assert found["kind"] == KINDS[path.suffix]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("invoice-acme-2026-0042.pdf", "Hydraulic pump"),
        ("letter-offer.docx", "annual maintenance"),
        ("price-list-2026.xlsx", "Seal kit 30"),
        ("email-order-4471.eml", "order-4471.csv"),
        ("email-maintenance.eml", "not available"),
    ],
)
async def test_text(sandbox: Sandbox, name: str, words: str) -> None:
    path = SAMPLES / name
    found = await run(sandbox, "text.extract", path.read_bytes(), kind=KINDS[path.suffix])
    assert words in found["output"].decode() and found["needs_ocr"] == []


async def test_html_text_has_no_scripts(sandbox: Sandbox) -> None:
    page = b"<html><script>evil()</script><style>p{}</style><body><p>One</p><table><tr><td>a</td><td>b</td></tr></table></body></html>"
    found = await run(sandbox, "text.extract", page, kind="html")
    text = found["output"].decode()
    assert "evil" not in text and "One" in text and "a\tb" in text


async def test_a_scan_is_read_by_ocr(sandbox: Sandbox) -> None:
    data = (SAMPLES / "scan-invoice-umbrella.pdf").read_bytes()
    found = await run(sandbox, "text.extract", data, kind="pdf")
    assert found["needs_ocr"] == [0]
    if shutil.which("tesseract") is None:
        assert await fault(sandbox, "text.ocr", [data, b""], kind="pdf", pages=[0]) == "ocr_not_installed"
        return
    read = await run(sandbox, "text.ocr", [data, b""], kind="pdf", pages=[0])
    assert "Umbrella Cleaning" in read["output"].decode() and read["confidence"] > 0.7


async def test_unreadable_documents_have_error_codes(sandbox: Sandbox) -> None:
    assert await fault(sandbox, "file.guard", (SAMPLES / "locked-invoice.pdf").read_bytes(), kind="pdf") == "encrypted"
    assert await fault(sandbox, "file.guard", (SAMPLES / "damaged-contract.pdf").read_bytes(), kind="pdf") == "damaged"
    assert await fault(sandbox, "file.identify", b"") == "empty"
    assert await fault(sandbox, "file.identify", b"\x7fELF" + bytes(100)) == "unsupported_type"
    assert await fault(sandbox, "file.guard", b"PK\x03\x04 nonsense", kind="docx") == "damaged"
    assert await fault(sandbox, "text.extract", b"PK\x03\x04 nonsense", kind="docx") == "damaged"
    assert (
        await fault(sandbox, "file.guard", (SAMPLES / "contract-services.pdf").read_bytes(), kind="pdf", max_pages=3)
        == "too_many_pages"
    )


async def test_bombs_are_refused(sandbox: Sandbox) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b"0" * (60 << 20))
    assert await fault(sandbox, "file.guard", packed.getvalue(), kind="docx") == "bomb"
    pdf = pikepdf.new()
    pdf.add_blank_page()
    pdf.Root.Bomb = pikepdf.Stream(pdf, b"")
    pdf.Root.Bomb.write(zlib.compress(b"0" * (200 << 20), 9), filter=pikepdf.Name.FlateDecode)
    out = io.BytesIO()
    pdf.save(out)
    assert await fault(sandbox, "file.guard", out.getvalue(), kind="pdf") == "bomb"
    wide = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(wide, "PNG")
    assert await fault(sandbox, "file.guard", wide.getvalue(), kind="image") == "too_many_pixels"


async def test_names_that_leave_the_archive_are_refused(sandbox: Sandbox) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("../../evil", b"x")
    assert await fault(sandbox, "file.guard", packed.getvalue(), kind="xlsx") == "bomb"


async def test_a_reader_that_takes_too_long_is_killed(sandbox: Sandbox) -> None:
    assert await fault(sandbox, "text.extract", (SAMPLES / "contract-nda.pdf").read_bytes(), 0.001, kind="pdf") == "limit_time"


async def test_a_cancelled_reader_leaves_no_process(sandbox: Sandbox) -> None:
    data = b"<p>x</p>" * 1_500_000
    task = asyncio.create_task(run(sandbox, "text.extract", data, kind="html"))
    started = asyncio.Event()
    asyncio.get_running_loop().call_later(0.15, started.set)
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_memory_is_limited() -> None:
    small = Sandbox(Limits(memory_bytes=420 << 20, cpu_s=20))
    code = await fault(small, "text.extract", b"x" * (300 << 20), kind="text")
    await small.close()
    assert code in ("limit_memory", "unreadable", "crashed")


async def test_a_child_has_no_network_and_cannot_fill_the_disk(tmp_path: Any) -> None:
    check = (
        "import os, signal, socket\nfrom pathlib import Path\n"
        "from services.stage_worker.adapters.confinement import Limits, confine_process\n"
        "missing = confine_process(Limits(file_bytes=1000), Path.cwd())\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "try:\n    fd = os.open('big', os.O_CREAT | os.O_WRONLY); os.write(fd, b'x' * 900); os.write(fd, b'x' * 900); wrote = os.fstat(fd).st_size > 1000\nexcept OSError: wrote = False\n"
        "try:\n    socket.create_connection(('127.0.0.1', 9), 1); net = 'open'\nexcept ConnectionRefusedError: net = 'open'\nexcept OSError: net = 'cut'\n"
        "print('network' not in missing, wrote, net)"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", check, stdout=subprocess.PIPE, cwd=tmp_path)
    out, _ = await process.communicate()
    cut, wrote, net = out.decode().split()
    assert wrote == "False"
    assert net == ("cut" if cut == "True" else "open")
    assert ("network" not in missing_walls()) is (cut == "True"), "`stageline doctor` says the same"


async def test_a_pdf_is_signed_by_processes_of_their_own(sandbox: Sandbox) -> None:
    key, certificate = key_file()
    secret = {"key": base64.b64encode(key).decode(), "key_password": "open"}
    described = await run(sandbox, "sign.describe", b"", **secret)
    prepared = await run(
        sandbox, "pdf.sign", (SAMPLES / "contract-nda.pdf").read_bytes(), kind="pdf", reserved=described["reserved"]
    )
    digest = digest_around(prepared["output"], prepared["gap"])
    made = await run(sandbox, "sign.digest", b"", digest=digest, **secret)
    signed = fill_gap(prepared["output"], prepared["gap"], made["signature"])
    assert await asyncio.to_thread(valid, signed, certificate) == [True]


async def test_text_is_judged_in_a_reader(sandbox: Sandbox) -> None:
    text = b"INVOICE\nInvoice No: 7-1\nAmount due: EUR 5,00\nIBAN x docu-\nment"
    assert (await run(sandbox, "text.classify", text))["tag"]["name"] == "invoice"
    assert (await run(sandbox, "fields.extract", text))["fields"]["invoice_number"] == "7-1"
    indexed = await run(sandbox, "text.index", text)
    assert b"document" in indexed["output"] and indexed["words"] == 11
    assert (await run(sandbox, "text.classify", text, rules={"own": {r"docu\w*": 99}}))["tag"]["name"] == "own"
    assert await fault(sandbox, "text.classify", text, rules={"own": {"(": 1}}) == "rule"
