"""Replaces a page that PDF/A forbids by a picture of it, with its words invisibly underneath, so that it can be searched."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import pikepdf
import pypdfium2 as pdfium
from fontTools.agl import UV2AGL
from pikepdf import Array, Dictionary, Name
from PIL import Image, ImageChops

from services.stage_worker.adapters.documents.archive_fonts import built_in_font, fix_font, read_widths

DPI = 300
MAX_PIXELS = 25_000_000
QUALITY = 90
KEPT = ("/Type", "/Parent", "/Annots")
"""Entries of a page that are kept when its content is replaced."""
UNSEEN = 3
"""Text rendering mode: neither filled nor stroked (ISO 32000-1 §9.3.6)."""


@lru_cache(maxsize=1)
def letters() -> dict[str, tuple[int, float]]:
    """Character → code in WinAnsi and width in Helvetica, for the characters that the font has."""
    names, width = read_widths(built_in_font("Helvetica"))
    found: dict[str, tuple[int, float]] = {}
    for code in range(32, 256):
        text = bytes([code]).decode("cp1252", "ignore")
        name = UV2AGL.get(ord(text)) if text else None
        if name in names:
            found[text] = (code, width(str(name)))
    return found


def word_font(pdf: pikepdf.Pdf, level: int) -> Dictionary:
    """The font of all invisible words of a document."""
    font = Dictionary(Type=Name.Font, Subtype=Name.Type1, BaseFont=Name("/Helvetica"), Encoding=Name.WinAnsiEncoding)
    made: Dictionary = pdf.make_indirect(font)
    fix_font(pdf, made, (code for code, _ in letters().values()), level)
    return made


def draw_page(pdf: pikepdf.Pdf, number: int, seen: pdfium.PdfPage, font: Dictionary) -> bool:
    """Replace page `number` by a picture of `seen`. Returns whether all of its words are underneath."""
    turned = seen.get_rotation()
    left, bottom, right, top = seen.get_cropbox()
    width, height = right - left, top - bottom
    scale = min(DPI / 72, (MAX_PIXELS / max(1.0, width * height)) ** 0.5)
    shown = seen.render(scale=scale, rotation=(360 - turned) % 360).to_pil().convert("RGB")
    picture = _picture(pdf, shown)
    words, whole = _words(seen)
    # Same object and coordinates, so links to the page and on the page stay valid.
    page: Any = pdf.pages[number].obj
    for key in list(page.keys()):
        if key not in KEPT:
            del page[key]
    page.MediaBox, page.Rotate = Array([left, bottom, right, top]), turned
    page.Contents = pdf.make_stream(f"q {width:.4f} 0 0 {height:.4f} {left:.4f} {bottom:.4f} cm /Page Do Q\n".encode() + words)
    page.Resources = Dictionary(XObject=Dictionary(Page=picture), Font=Dictionary(Words=font))
    return whole


def _picture(pdf: pikepdf.Pdf, shown: Image.Image) -> pikepdf.Stream:
    red, green, blue = shown.split()
    grey = not ImageChops.difference(red, green).getbbox() and not ImageChops.difference(red, blue).getbbox()
    facts = {
        "Type": Name.XObject, "Subtype": Name.Image, "Width": shown.width, "Height": shown.height, "BitsPerComponent": 8,
        "ColorSpace": Name.DeviceGray if grey else Name.DeviceRGB,
    }  # fmt: skip
    if grey:
        return pdf.make_stream(red.tobytes(), **facts)  # compressed without loss when the document is saved
    packed = io.BytesIO()
    shown.save(packed, "JPEG", quality=QUALITY)
    return pdf.make_stream(packed.getvalue(), Filter=Name.DCTDecode, **facts)


def _words(seen: pdfium.PdfPage) -> tuple[bytes, bool]:
    known, whole = letters(), True
    lines = [f"BT {UNSEEN} Tr".encode()]
    text = seen.get_textpage()
    for n in range(text.count_rects()):
        x0, y0, x1, y1 = text.get_rect(n)
        line = " ".join(text.get_text_bounded(x0, y0, x1, y1).split())
        codes = [known[c] for c in line if c in known]
        whole = whole and len(codes) == len(line)
        size, natural = max(1.0, y1 - y0), sum(w for _, w in codes)
        if natural and x1 > x0:
            stretch = (x1 - x0) / (natural / 1000 * size) * 100
            spelt = bytes(code for code, _ in codes).hex()
            lines.append(f"/Words {size:.2f} Tf {stretch:.2f} Tz 1 0 0 1 {x0:.2f} {y0:.2f} Tm <{spelt}> Tj".encode())
    text.close()
    return b"\n".join([*lines, b"ET"]), whole
