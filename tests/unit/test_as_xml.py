"""Texts as XML: every kind that text is read of, protected or scanned, and characters that XML has no place for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from services.stage_worker.adapters.documents import ocr
from services.stage_worker.adapters.documents.as_xml import NAMESPACE, convert
from services.stage_worker.core.document_fault import DocumentFault
from tests.conftest import SAMPLES
from tests.unit.test_pdf import protected, put, quiet


def made(data: bytes, folder: Path, kind: str, **config: Any) -> tuple[Any, dict[str, Any]]:
    result = convert(put(folder, data), {"kind": kind, **config}, quiet)
    return etree.parse(folder / "output").getroot(), result["properties"]


def pages(root: Any) -> list[Any]:
    return list(root.iterfind(f"{{{NAMESPACE}}}page"))


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("invoice-acme-2026-0042.pdf", "pdf", "INV-2026-0042"), ("letter-offer.docx", "docx", "offer"),
        ("price-list-2026.xlsx", "xlsx", "2026"), ("email-order-4471.eml", "email", "4471"),
    ],
)  # fmt: skip
def test_the_text_of_a_document(name: str, kind: str, words: str, tmp_path: Path) -> None:
    root, properties = made((SAMPLES / name).read_bytes(), tmp_path, kind)
    found = pages(root)
    assert root.tag == f"{{{NAMESPACE}}}document" and root.get("kind") == kind
    assert len(found) == properties["page_count"] == int(root.get("pages")) and found[0].get("number") == "1"
    assert words.lower() in "".join(p.text or "" for p in found).lower()


def test_a_protected_pdf_and_what_is_said_of_it(tmp_path: Path) -> None:
    root, _ = made(protected("secret"), tmp_path, "pdf", passwords=["no", "secret"], meta={"META.TITLE": "A & <B>\x0c"})
    assert root.findtext(f"{{{NAMESPACE}}}title") == "A & <B>"
    with pytest.raises(DocumentFault) as refused:
        made(protected("secret"), tmp_path, "pdf", passwords=["no"])
    assert refused.value.code == "password"


def test_characters_without_a_place_are_left_out(tmp_path: Path) -> None:
    root, _ = made("a\x01b\x0bc\ufffe\r\nd é 😀".encode(), tmp_path, "text")
    assert pages(root)[0].text.strip() == "abc\nd é 😀"


def test_scans_are_read_if_tesseract_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = (SAMPLES / "scan-receipt.png").read_bytes()
    monkeypatch.setattr(ocr, "tesseract", lambda: None)
    root, properties = made(scan, tmp_path, "image")
    assert "not installed" in properties["warning.OcrIncomplete"] and pages(root)[0].get("source") == "text"
    monkeypatch.undo()
    if ocr.tesseract() is not None:
        root, properties = made(scan, tmp_path, "image")
        assert "warning.OcrIncomplete" not in properties
        assert pages(root)[0].get("source") == "ocr" and len(pages(root)[0].text.split()) > 5
