"""The text of a document as XML, page by page, for programs that read XML only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lxml import etree

from services.stage_worker.adapters.documents.ocr import recognise
from services.stage_worker.adapters.documents.pdf import META, as_properties, open_pdf
from services.stage_worker.adapters.documents.text import Report, extract_text
from services.stage_worker.core.document_fault import DocumentFault

NAMESPACE = "urn:stageline:document:1"
_UNFIT = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 §2.2 does not allow."""
_ENTRIES = {entry: option.partition(".")[2].lower() for option, entry in META.items()}


def convert(path: Path, config: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Write `output`: `<document kind><title/>…<page number source="text|ocr">text</page>…</document>` in `NAMESPACE`, UTF-8.

    `config`: `kind` (all that `extract_text` reads), `passwords`, `meta` (options of `META`, which win over the document's own).
    Raises `password`, `damaged`, `unsupported_type`, `too_much_text`.
    """
    kind = str(config.get("kind"))
    notes: dict[str, str] = {}
    about: dict[str, str] = {}
    if kind == "pdf":
        path, about = _opened(path, [str(p) for p in config.get("passwords", [])], notes)
    found = extract_text(path, {"kind": kind}, report)
    pages = [str(page) for page in found["pages"]]
    read = _read(path, {**config, "kind": kind, "pages": found["needs_ocr"]}, pages, notes, report)
    about |= {_ENTRIES[META[option]]: str(value) for option, value in dict(config.get("meta", {})).items() if option in META}
    root = etree.Element(f"{{{NAMESPACE}}}document", nsmap={None: NAMESPACE}, kind=kind, pages=str(len(pages)))
    for name, value in sorted(about.items()):
        etree.SubElement(root, f"{{{NAMESPACE}}}{name}").text = _UNFIT.sub("", value)
    for number, page in enumerate(pages):
        source = "ocr" if number in read else "text"
        element = etree.SubElement(root, f"{{{NAMESPACE}}}page", number=str(number + 1), source=source)
        element.text = _UNFIT.sub("", page.replace("\r\n", "\n").replace("\r", "\n"))
    (path.parent / "output").write_bytes(etree.tostring(root, encoding="UTF-8", xml_declaration=True))
    return {"properties": {"page_count": len(pages), **as_properties(notes)}}


def _opened(path: Path, passwords: list[str], notes: dict[str, str]) -> tuple[Path, dict[str, str]]:
    """Path of the PDF without its password, and its own metadata."""
    document, warnings = open_pdf(path, passwords)
    notes |= {warning["code"]: warning["message"] for warning in warnings}
    with document:
        about = {name: str(document.docinfo[entry]) for entry, name in _ENTRIES.items() if entry in document.docinfo}
        document.save(path.parent / "plain.pdf", encryption=False)
    return path.parent / "plain.pdf", about


def _read(path: Path, config: dict[str, Any], pages: list[str], notes: dict[str, str], report: Report) -> set[int]:
    """Put the text that OCR reads into `pages`. Returns the indices of those pages."""
    wanted = config["pages"]
    if not wanted:
        return set()
    try:
        seen = recognise(path, {key: config[key] for key in ("kind", "pages", "recognise") if key in config}, report)["pages"]
    except DocumentFault as fault:
        if fault.code != "ocr_not_installed":
            raise
        notes["OcrIncomplete"] = f"{len(wanted)} scanned pages were not read: {fault}"
        return set()
    for index, text in seen.items():
        pages[int(index)] = str(text)
    return {int(index) for index in seen}
