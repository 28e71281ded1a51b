"""Entry of the sandbox's child process: limits first, then one document, then a result file. It never imports the service."""

from __future__ import annotations

import json
import os
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from services.stage_worker.adapters.confinement import Limits, confine_process
from services.stage_worker.adapters.documents import archive, as_xml, embedded, guard, identify, invoice, ocr, pdf, text, tiff
from services.stage_worker.core.document_fault import DocumentFault


def main(pipe: Connection, action: str, folder: str, config: dict[str, Any], limits: Limits) -> None:
    """Process `folder/input`, write `folder/result.json`, send progress through the pipe. Ends the process."""
    os.setsid()
    os.chdir(folder)
    os.environ["TMPDIR"] = folder
    confine_process(limits)

    def report(done: int, total: int | None) -> None:
        pipe.send(("progress", done, total))

    try:
        result = _act(action, Path(folder) / "input", config, report)
    except DocumentFault as fault:
        result = {"fault": {"code": fault.code, "message": str(fault), "retriable": fault.retriable}}
    except MemoryError:
        text_ = f"Reading the file took more than {limits.memory_bytes >> 20} MiB of memory."
        result = {"fault": {"code": "limit_memory", "message": text_, "retriable": False}}
    except Exception as error:  # noqa: BLE001 - a parser can raise anything on a hostile file; it is reported as the file's fault
        text_ = f"The file could not be read: {type(error).__name__}: {str(error)[:300]}"
        result = {"fault": {"code": "unreadable", "message": text_, "retriable": False}}
    (Path(folder) / "result.json").write_text(json.dumps(result))
    pipe.send(("done",))
    pipe.close()
    os._exit(0)


def _act(action: str, path: Path, config: dict[str, Any], report: Any) -> dict[str, Any]:
    quick = {"file.identify": identify.identify, "file.guard": guard.guard}
    if action in quick:
        return quick[action](path, config)
    slow: dict[str, Any] = {
        "text.extract": text.extract_text, "text.ocr": ocr.recognise, "pdf.convert": pdf.convert, "pdf.split": pdf.split,
        "pdf.merge": pdf.merge, "tiff.convert": tiff.convert, "pdf.extract_xml": embedded.extract_xml,
        "pdf.archive": archive.archive, "pdf.invoice": invoice.make_invoice, "pdf.sign": _sign,
        "xml.convert": as_xml.convert,
    }  # fmt: skip
    if action not in slow:
        raise DocumentFault("unknown_action", f"There is no action {action!r} in the sandbox.")
    found: dict[str, Any] = slow[action](path, config, report)
    return found


def _sign(path: Path, config: dict[str, Any], report: Any) -> dict[str, Any]:
    # Imported late: few documents need it, and its imports are slow.
    from services.stage_worker.adapters.documents.sign import sign

    return sign(path, config, report)
