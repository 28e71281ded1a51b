"""Every frame of a TIFF is a page, and a turned photograph is read upright. Pages of the web are decoded as what they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from services.stage_worker.adapters.documents import ocr
from services.stage_worker.adapters.documents.text import extract_text


def quiet(done: int, total: int | None) -> None:
    """No progress."""


def picture(color: str, size: tuple[int, int] = (40, 20)) -> Image.Image:
    return Image.new("RGB", size, color)


@pytest.mark.parametrize(("format_", "pages"), [("TIFF", 3), ("GIF", 1), ("PNG", 1)])
def test_each_frame_of_a_tiff_needs_ocr(tmp_path: Path, format_: str, pages: int) -> None:
    path = tmp_path / "scan"
    picture("red").save(path, format_, save_all=True, append_images=[picture("blue"), picture("green")])
    found = extract_text(path, {"kind": "image"}, quiet)
    assert found["needs_ocr"] == list(range(pages)) and found["pages"] == [""] * pages


def recognised(path: Path, pages: list[int], monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, tuple[int, int], int]]:
    """Page, size and brightness of each picture that OCR gets."""
    seen: list[tuple[int, tuple[int, int], int]] = []

    def look(index: int, languages: str) -> None:
        made = path.parent / ocr.picture_name(index)
        with Image.open(made) as shown:
            seen.append((index, shown.size, shown.getpixel((0, 0))))  # type: ignore[arg-type]
        made.with_suffix(".txt").write_text("")
        made.with_suffix(".tsv").write_text("")

    monkeypatch.setattr(ocr, "tesseract", lambda: "tesseract")
    ocr.recognise(path, {"kind": "image", "pages": pages, "recognise": look}, quiet)
    return seen


def test_ocr_gets_each_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "scan"
    picture("black").save(path, "TIFF", save_all=True, append_images=[picture("white")])
    assert recognised(path, [0, 1], monkeypatch) == [(0, (40, 20), 0), (1, (40, 20), 255)]


def test_a_photograph_is_turned_as_it_was_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, held = tmp_path / "photo", Image.Exif()
    held[0x0112] = 6
    picture("white").save(path, "JPEG", exif=held)
    [(_, size, _)] = recognised(path, [0], monkeypatch)
    assert size == (20, 40)


UMLAUTS = "Grüße für 5 €"


@pytest.mark.parametrize(
    "page",
    [
        f"<p>{UMLAUTS}</p>".encode(),
        f"<meta charset=iso-8859-1><p>{UMLAUTS}</p>".encode(),
        f'<meta http-equiv="Content-Type" content="text/html; charset=ISO-8859-1"><p>{UMLAUTS}</p>'.encode("windows-1252"),
        f'<meta charset="iso-8859-15"><p>{UMLAUTS}</p>'.encode("iso-8859-15"),
        f"<p>{UMLAUTS}</p>".encode("utf-16"),
        f'<?xml version="1.0" encoding="UTF-8"?><html xmlns="http://www.w3.org/1999/xhtml"><body><p>{UMLAUTS}</p></body></html>'.encode(),
        f'<?xml version="1.0" encoding="windows-1252"?><html><body>{UMLAUTS}</body></html>'.encode("windows-1252"),
    ],
)
def test_a_page_is_read_in_its_encoding(tmp_path: Path, page: bytes) -> None:
    path = tmp_path / "page.html"
    path.write_bytes(page)
    assert extract_text(path, {"kind": "html"}, quiet)["pages"] == [UMLAUTS]
