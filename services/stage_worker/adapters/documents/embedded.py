"""XML files embedded in a PDF: the data of an electronic invoice (ISO 32000-2 §7.11.4; Factur-X, ZUGFeRD)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pikepdf

from services.stage_worker.adapters.documents.pdf import open_pdf
from services.stage_worker.adapters.documents.text import Report
from services.stage_worker.core.document_fault import DocumentFault

MAX_FILES = 100
MAX_BYTES = 50 << 20
XML_TYPES = ("text/xml", "application/xml")


def extract_xml(path: Path, config: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Write `output-0`, `output-1`, …: the embedded XML files unchanged. `names` in the result has their names in that order.

    `config`: `kind`, `passwords`. Raises `password`, `damaged`, `unsupported_type`, `no_xml`, `too_large`.
    """
    if str(config.get("kind")) != "pdf":
        raise DocumentFault("unsupported_type", "Only PDFs carry embedded files.")
    document, warnings = open_pdf(path, [str(p) for p in config.get("passwords", [])])
    notes = {f"warning.{warning['code']}": warning["message"] for warning in warnings}
    names: list[str] = []
    with document:
        found = [(name, spec) for name, spec in document.attachments.items() if _is_xml(name, spec)]
        if len(found) > MAX_FILES:
            notes["warning.PartialExtraction"] = f"The PDF carries {len(found)} XML files; these are the first {MAX_FILES}."
        for number, (name, spec) in enumerate(found[:MAX_FILES]):
            data = spec.get_file().read_bytes()
            if len(data) > MAX_BYTES:
                raise DocumentFault("too_large", f"The embedded file {name[:100]!r} is larger than {MAX_BYTES >> 20} MiB.")
            (path.parent / f"output-{number}").write_bytes(data)
            names.append(_file_name(spec.filename or name, number))
            report(number + 1, min(len(found), MAX_FILES))
        pages = len(document.pages)
    if not names:
        raise DocumentFault("no_xml", "The PDF carries no embedded XML file.")
    return {"names": names, "properties": {"page_count": pages, **notes}}


def _is_xml(name: str, spec: pikepdf.AttachedFileSpec) -> bool:
    return spec.get_file().mime_type in XML_TYPES or (spec.filename or name).lower().endswith(".xml")


def _file_name(name: str, number: int) -> str:
    """The last part of the name in the PDF. The author chose it, so it must not act as a path."""
    last = name.replace("\\", "/").rpartition("/")[2]
    kept = "".join(c for c in last if c.isprintable())[-200:].strip(". ")
    return kept or f"embedded-{number + 1}.xml"
