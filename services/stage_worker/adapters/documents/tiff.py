"""Makes one TIFF of a document, one frame per page (TIFF 6.0). PDFium draws, Pillow and libtiff write without loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pypdfium2 as pdfium
from PIL import Image, ImageChops, ImageOps, ImageSequence, TiffImagePlugin

from services.stage_worker.adapters.documents.pdf import META, frame_dpi, open_pdf
from services.stage_worker.adapters.documents.text import Report
from services.stage_worker.core.document_fault import DocumentFault

DPI = 300
"""Usual for archive scans, and the finest resolution of fax (ITU-T T.6)."""
MAX_PIXELS = 40_000_000
MAX_PAGES = 500
TAGS = {"META.TITLE": 270, "META.AUTHOR": 315}
"""Option → ImageDescription, Artist (TIFF 6.0 §8)."""
KEPT = ("1", "L", "I;16", "I", "F", "CMYK", "LAB")
"""Modes of Pillow that TIFF stores directly."""
Frame = tuple[Image.Image, float]


def convert(path: Path, config: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Write `output`: every page at 300 dpi, or a picture as it is. `config`: `kind`, `passwords`, `meta` (options of `TAGS`).

    Black and white frames are compressed by T.6 ("Group 4"), others by Deflate. Grey frames have one byte per pixel. Raises `password`,
    `damaged`, `too_many_pages`, `unsupported_type`.
    """
    kind = str(config.get("kind"))
    notes: dict[str, str] = {}
    if kind == "pdf":
        frames, count = _pages(path, config, notes)
    elif kind == "image":
        frames, count = _frames(path)
    else:
        raise DocumentFault("unsupported_type", f"Files of kind {kind} cannot be made a TIFF here: PDFs and images can.")
    if count > MAX_PAGES:
        raise DocumentFault("too_many_pages", f"The document has {count} pages; at most {MAX_PAGES} can be put into a TIFF.")
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for option, value in dict(config.get("meta", {})).items():
        if option in TAGS:
            tags[TAGS[option]] = str(value)
    with TiffImagePlugin.AppendingTiffWriter(str(path.parent / "output"), new=True) as target:
        for number, (frame, dpi) in enumerate(frames):
            packed = "group4" if frame.mode == "1" else "tiff_adobe_deflate"
            frame.save(target, "TIFF", compression=packed, dpi=(dpi, dpi), tiffinfo=tags)
            target.newFrame()
            report(number + 1, count)
    lost = [option for option in META if option in config.get("meta", {}) and option not in TAGS]
    if lost:
        notes["warning.MetadataRemoved"] = f"A TIFF has no place for {', '.join(lost)}."
    return {"properties": {"page_count": count, **notes}}


def _pages(path: Path, config: Mapping[str, Any], notes: dict[str, str]) -> tuple[Iterator[Frame], int]:
    document, warnings = open_pdf(path, [str(p) for p in config.get("passwords", [])])
    notes |= {f"warning.{warning['code']}": warning["message"] for warning in warnings}
    plain = path.parent / "plain.pdf"
    with document:
        count = len(document.pages)
        document.save(plain, encryption=False)

    def drawn() -> Iterator[Frame]:
        with pdfium.PdfDocument(plain) as pages:
            pages.init_forms()
            for page in pages:
                width, height = page.get_size()
                scale = min(DPI / 72, (MAX_PIXELS / max(1.0, width * height)) ** 0.5)
                if scale < DPI / 72:
                    notes["warning.ContentRasterized"] = f"A page is so large that it is drawn with {scale * 72:.0f} dpi."
                yield _grey_if_grey(page.render(scale=scale).to_pil().convert("RGB")), scale * 72
                page.close()

    return drawn(), count


def _frames(path: Path) -> tuple[Iterator[Frame], int]:
    with Image.open(path) as picture:
        count = int(getattr(picture, "n_frames", 1))

    def taken() -> Iterator[Frame]:
        with Image.open(path) as picture:
            for frame in ImageSequence.Iterator(picture):
                yield _plain(frame), frame_dpi(frame)

    return taken(), count


def _plain(frame: Image.Image) -> Image.Image:
    frame = ImageOps.exif_transpose(frame)
    if frame.mode in KEPT:
        return frame
    if frame.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in frame.info:
        # Transparent areas become white, as on paper.
        layered = frame.convert("RGBA")
        paper = Image.new("RGBA", layered.size, "white")
        frame = Image.alpha_composite(paper, layered)
    return _grey_if_grey(frame.convert("RGB"))


def _grey_if_grey(frame: Image.Image) -> Image.Image:
    red, green, blue = frame.split()
    same = not ImageChops.difference(red, green).getbbox() and not ImageChops.difference(red, blue).getbbox()
    return red if same else frame
