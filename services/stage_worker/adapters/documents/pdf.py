"""Makes PDFs of PDFs and images: convert one, merge several, split into pages. pikepdf writes, Pillow reads images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pikepdf
from PIL import Image, ImageOps, ImageSequence

from services.stage_worker.adapters.documents.text import Report
from services.stage_worker.core.document_fault import DocumentFault

META = {"META.TITLE": "/Title", "META.AUTHOR": "/Author", "META.SUBJECT": "/Subject", "META.KEYWORDS": "/Keywords"}
"""Option → entry of the document information dictionary (ISO 32000-2 §14.3.3)."""
A4_POINTS = (595.0, 842.0)
MAX_FRAMES = 2000
MAX_PAGES = 200


def convert(path: Path, config: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Write `output`: the document as a PDF without a password. `config`: `kind`, `passwords`, `meta` (options of `META`), `linearize`.

    Raises `password`, `damaged`, `unsupported_type`.
    """
    document, notes = open_document(path, config, report)
    with document:
        pages = len(document.pages)
        _write(document, path.parent / "output", config)
    return {"properties": {"page_count": pages, **as_properties(notes)}}


def merge(path: Path, config: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Write `output`: the pages of all inputs (`input`, `input-1`, …), in order. Raises `damaged`."""
    count = int(config.get("inputs", 1))
    target = pikepdf.Pdf.new()
    names = ["input", *(f"input-{n}" for n in range(1, count))]
    opened: list[pikepdf.Pdf] = []
    try:
        for done, name in enumerate(names):
            document, _ = open_pdf(path.parent / name, [])
            opened.append(document)
            target.pages.extend(document.pages)
            report(done + 1, count)
        pages = len(target.pages)
        _write(target, path.parent / "output", config)
    finally:
        for document in opened:
            document.close()
    return {"pages": pages}


def split(path: Path, config: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Write `output-0`, `output-1`, …: a PDF of each page, rotated by `config.rotation` degrees.

    Raises `password`, `damaged`, `too_many_pages`, `unsupported_type`, `option`.
    """
    if str(config.get("kind")) != "pdf":
        raise DocumentFault("unsupported_type", "Only PDFs can be taken apart into pages.")
    rotation = int(config.get("rotation") or 0)
    if rotation % 90:
        raise DocumentFault("option", f"rotation: a multiple of 90 degrees is expected, not {rotation}")
    document, _ = open_pdf(path, [])
    with document:
        count = len(document.pages)
        if count > MAX_PAGES:
            raise DocumentFault("too_many_pages", f"The PDF has {count} pages; at most {MAX_PAGES} can be taken apart.")
        for number, page in enumerate(document.pages):
            with pikepdf.Pdf.new() as single:
                single.pages.append(page)
                if rotation:
                    single.pages[0].rotate(rotation, relative=True)
                single.save(path.parent / f"output-{number}")
            report(number + 1, count)
    return {"properties": {"page_count": count}}


def open_document(path: Path, config: Mapping[str, Any], report: Report) -> tuple[pikepdf.Pdf, dict[str, str]]:
    """Open a PDF, or an image as a PDF. Returns it with its repairs (event code → text). `config`: `kind`, `passwords`.

    Raises `password`, `damaged`, `unsupported_type`.
    """
    kind = str(config.get("kind"))
    if kind == "image":
        return image_to_pdf(path, report), {}
    if kind != "pdf":
        raise DocumentFault("unsupported_type", f"Files of kind {kind} cannot be made a PDF here: PDFs and images can.")
    document, warnings = open_pdf(path, [str(p) for p in config.get("passwords", [])])
    return document, {warning["code"]: warning["message"] for warning in warnings}


def as_properties(notes: Mapping[str, str]) -> dict[str, str]:
    """Notes (event code → text) in the form of a file's properties."""
    return {f"warning.{code}": message for code, message in notes.items()}


def open_pdf(path: Path, passwords: Sequence[str]) -> tuple[pikepdf.Pdf, list[dict[str, str]]]:
    """Open a PDF with the first password that fits. Returns it with its repairs (`code`, `message`). Raises `password`, `damaged`."""
    for password in ("", *passwords):
        try:
            document = pikepdf.open(path, password=password, attempt_recovery=True)
        except pikepdf.PasswordError:
            continue
        except pikepdf.PdfError as error:
            raise DocumentFault("damaged", f"The PDF cannot be opened: {str(error)[:300]}") from None
        repairs = [str(w) for w in document.get_warnings()]
        found = [{"code": "CorruptionRepaired", "message": f"The PDF was repaired: {repairs[0][:200]}"}] if repairs else []
        return document, found
    raise DocumentFault("password", "The PDF is protected, and no password that was given opens it.")


def image_to_pdf(path: Path, report: Report) -> pikepdf.Pdf:
    """Make a PDF of an image: one page per frame, sized by the frame's resolution. Raises `damaged`."""
    target = pikepdf.Pdf.new()
    with Image.open(path) as picture:
        frames = getattr(picture, "n_frames", 1)
        if frames > MAX_FRAMES:
            raise DocumentFault("damaged", f"The image has {frames} pages; at most {MAX_FRAMES} can be converted.")
        for number, frame in enumerate(ImageSequence.Iterator(picture)):
            page = path.parent / "page.pdf"
            _shown(frame).save(page, "PDF", resolution=frame_dpi(frame))
            with pikepdf.open(page) as single:
                target.pages.extend(single.pages)
                # The target reads the page's file when it is saved, so the file must stay.
                page.rename(path.parent / f"page-{number}.pdf")
            report(number + 1, frames)
    return target


def _shown(frame: Image.Image) -> Image.Image:
    """The frame upright (Exif 2.32 §4.6.4, Orientation), with 8 bits per channel."""
    upright = ImageOps.exif_transpose(frame)
    if upright.mode.startswith("I;16"):
        return upright.point(lambda value: value * (1 / 256)).convert("L")
    return upright.convert("L" if upright.mode in ("1", "L", "I", "F") else "RGB")


def frame_dpi(frame: Image.Image) -> float:
    """Resolution of the frame in dpi; without one, the resolution that fits it on an A4 page."""
    own = float((frame.info.get("dpi") or (0,))[0] or 0)
    if 30 <= own <= 2400:
        return own
    return max(72.0, frame.width / A4_POINTS[0] * 72, frame.height / A4_POINTS[1] * 72)


def _write(document: pikepdf.Pdf, target: Path, config: Mapping[str, Any]) -> None:
    for option, value in dict(config.get("meta", {})).items():
        if option in META:
            document.docinfo[META[option]] = str(value)
    document.save(target, linearize=bool(config.get("linearize", False)), encryption=False)
