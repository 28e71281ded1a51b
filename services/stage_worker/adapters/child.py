"""Entry of a document's reader: limits and walls first, then one document, then a result file. It never imports the service."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from services.stage_worker.adapters import program_runner
from services.stage_worker.adapters.confinement import Limits, confine_process, prepare
from services.stage_worker.adapters.documents import archive, as_xml, embedded, guard, identify, invoice, pdf, plain_text, tiff
from services.stage_worker.core.document_fault import DocumentFault

LATE = ("openpyxl", "lxml.html")
"""Imported by the functions that use them. Loaded once before any reader is forked."""
LATE_FOR_SIGNATURES = (*LATE, "services.stage_worker.adapters.documents.sign")
"""The same where PDFs are signed. It is half as large again, which each fork would pay for."""
RUNS_PROGRAMS = ("text.ocr", "xml.convert")
PROGRESS_EVERY_S = 0.05
Act = Callable[[Path, dict[str, Any], Any], dict[str, Any]]


def preload(names: Sequence[str] = LATE) -> None:
    """Load what readers use, so that each of them starts with it."""
    for name in names:
        importlib.import_module(name)
    prepare()
    plain_text.warm_up()
    sys.dont_write_bytecode = True


def main(request: int, messages: int, folder: str, limits: Limits) -> NoReturn:
    """Process `folder/input`, write `folder/result.json`, send progress to the descriptor `messages`. Ends the process.

    `request` is a descriptor of `{"action", "config", "required"}`. With `required` nothing is read while a wall is missing.
    """
    os.chdir(folder)
    os.environ |= {"TMPDIR": folder, "HOME": folder}
    with os.fdopen(request, "rb") as stream:
        stream.seek(0)
        asked = json.loads(stream.read())
    action, config, required = asked["action"], asked["config"], asked["required"]
    config.pop("recognise", None)
    tesseract = shutil.which("tesseract") if action in RUNS_PROGRAMS else None
    if tesseract is not None:
        config["recognise"] = program_runner.start_runner(tesseract, Path(folder), limits, required, [messages])
    missing = confine_process(limits, Path(folder))
    if missing and required:
        wall, reason = next(iter(missing.items()))
        result = _fault("sandbox_incomplete", f"The sandbox lacks a wall on this machine: {wall}: {reason}.", True)
    else:
        result = _result(action, Path(folder) / "input", config, limits, _reporter(messages))
    (Path(folder) / "result.json").write_bytes(json.dumps(result, ensure_ascii=False).encode("utf-8", "replace"))
    os.write(messages, b'"done"\n')
    os._exit(0)


def _reporter(messages: int) -> Callable[[int, int | None], None]:
    """Sends progress, at most every 50 ms."""
    last = 0.0

    def report(done: int, total: int | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PROGRESS_EVERY_S or done == total:
            last = now
            os.write(messages, json.dumps([done, total]).encode() + b"\n")

    return report


def _result(action: str, path: Path, config: dict[str, Any], limits: Limits, report: Any) -> dict[str, Any]:
    try:
        return _act(action, path, config, report)
    except DocumentFault as fault:
        return _fault(fault.code, str(fault), fault.retriable)
    except MemoryError:
        return _fault("limit_memory", f"Reading the file took more than {limits.memory_bytes >> 20} MiB of memory.")
    except Exception as error:  # noqa: BLE001 - a parser can raise anything on a hostile file; it is reported as the file's fault
        return _fault("unreadable", f"The file could not be read: {type(error).__name__}: {str(error)[:300]}")


def _fault(code: str, message: str, retriable: bool = False) -> dict[str, Any]:
    return {"fault": {"code": code, "message": message[:2000], "retriable": retriable}}


def _act(action: str, path: Path, config: dict[str, Any], report: Any) -> dict[str, Any]:
    quick = {"file.identify": identify.identify, "file.guard": guard.guard}
    if action in quick:
        return quick[action](path, config)
    slow: dict[str, Any] = {
        "text.extract": plain_text.extract, "text.ocr": plain_text.recognise, "text.classify": plain_text.find_tag,
        "fields.extract": plain_text.find_fields, "text.index": plain_text.index,
        "pdf.convert": pdf.convert, "pdf.split": pdf.split, "pdf.merge": pdf.merge, "tiff.convert": tiff.convert,
        "pdf.extract_xml": embedded.extract_xml, "pdf.archive": archive.archive, "pdf.invoice": invoice.make_invoice,
        "xml.convert": as_xml.convert,
    }  # fmt: skip
    if action in ("pdf.sign", "sign.describe", "sign.digest"):
        slow |= _signing()
    if action not in slow:
        raise DocumentFault("unknown_action", f"There is no action {action!r} in the sandbox.")
    found: dict[str, Any] = slow[action](path, config, report)
    return found


def _signing() -> dict[str, Act]:
    # Imported late, and only for these: its imports take half a second where they are not loaded before.
    from services.stage_worker.adapters.documents import sign

    return {"pdf.sign": sign.prepare, "sign.describe": sign.describe_key, "sign.digest": sign.sign_digest}
