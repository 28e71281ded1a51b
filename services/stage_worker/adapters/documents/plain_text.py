"""Actions on text: extraction into a file, OCR into that file, classification, fields, and the form of the full-text index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from services.stage_worker.adapters.documents import ocr, text
from services.stage_worker.adapters.documents.text import Report
from services.stage_worker.core.classify import classify
from services.stage_worker.core.fields import extract_fields
from services.stage_worker.core.search_text import normalise

PAGE_BREAK = "\f"
MAX_OCR_PAGES = 5000
MAX_FIELD_TEXT = 500_000
"""Characters of a text in which fields are looked for."""


def extract(path: Path, config: dict[str, Any], report: Report) -> dict[str, Any]:
    """Write `output`: the pages' text as UTF-8, with a form feed between them. Returns `{needs_ocr, characters, tool}`.

    Raises as `extract_text`.
    """
    found = text.extract_text(path, config, report)
    pages = [str(page) for page in found["pages"]]
    _write(path, PAGE_BREAK.join(pages))
    return {"needs_ocr": found["needs_ocr"][:MAX_OCR_PAGES], "characters": sum(map(len, pages)), "tool": found["tool"]}


def recognise(path: Path, config: dict[str, Any], report: Report) -> dict[str, Any]:
    """Write `output`: the text `input-1` with the pages that OCR has read. Returns `{confidence, tool}`. Raises as `ocr.recognise`."""
    found = ocr.recognise(path, config, report)
    pages = _read(path.parent / "input-1").split(PAGE_BREAK)
    for index, page in found["pages"].items():
        pages += [""] * (int(index) + 1 - len(pages))
        pages[int(index)] = str(page)
    _write(path, PAGE_BREAK.join(pages))
    return {"confidence": found["confidence"], "tool": found["tool"]}


def find_tag(path: Path, config: dict[str, Any], report: Report) -> dict[str, Any]:
    """Returns `{tag}` of the text. `config`: `rules`. Raises `rule`."""
    return {"tag": classify(_read(path), config.get("rules"))}


def find_fields(path: Path, config: dict[str, Any], report: Report) -> dict[str, Any]:
    """Returns `{fields}` of the text."""
    return {"fields": extract_fields(_read(path)[:MAX_FIELD_TEXT])}


def index(path: Path, config: dict[str, Any], report: Report) -> dict[str, Any]:
    """Write `output`: the text in the form of the index. Returns `{words}`."""
    normal = normalise(_read(path))
    _write(path, normal)
    return {"words": len(normal.split())}


def warm_up() -> None:
    """Make the tables that the judges of text make at their first use."""
    normalise("")
    extract_fields("")
    classify("")


def _read(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace")


def _write(path: Path, content: str) -> None:
    (path.parent / "output").write_bytes(content.encode("utf-8", "replace"))
