"""OCR by tesseract, page by page. One thread per page, because more threads cost CPU without saving time."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pypdfium2 as pdfium
from PIL import Image, ImageOps

from services.stage_worker.adapters.documents.text import Report
from services.stage_worker.core.document_fault import DocumentFault

DPI = 200
MAX_PIXELS = 40_000_000
PAGE_TIMEOUT_S = 300
Recognise = Callable[[int, str], None]
"""Runs tesseract on the picture of a page, in these languages. Writes its text and its table beside the picture. Raises `DocumentFault`."""


def tesseract() -> str | None:
    """Path of the tesseract program, or None when it is not installed."""
    return shutil.which("tesseract")


def recognise(path: Path, config: dict[str, Any], report: Report) -> dict[str, Any]:
    """Returns `{pages: {index: text}, confidence, tool}` for the pages in `config["pages"]`. `confidence` is a mean, 0 to 1.

    `config["recognise"]` runs the program elsewhere; without it, this process does. Raises `ocr_not_installed`, `ocr_failed`, `limit_time`, `damaged`.
    """
    program = tesseract()
    if program is None:
        raise DocumentFault("ocr_not_installed", "OCR needs tesseract, which is not installed on this worker.")
    run: Recognise = config.get("recognise") or (
        lambda index, languages: _run(program, path.parent / picture_name(index), languages)
    )
    wanted = [int(i) for i in config.get("pages", [])]
    texts: dict[str, str] = {}
    scores: list[float] = []
    for done, index in enumerate(wanted):
        picture = path.parent / picture_name(index)
        _render(path, str(config.get("kind")), index).save(picture)
        run(index, str(config.get("languages", "eng")))
        texts[str(index)] = picture.with_suffix(".txt").read_text()
        scores.extend(_scores(picture.with_suffix(".tsv").read_text()))
        picture.unlink()
        report(done + 1, len(wanted))
    confidence = round(sum(scores) / len(scores) / 100, 3) if scores else 0.0
    return {"pages": texts, "confidence": confidence, "tool": "tesseract"}


def _render(path: Path, kind: str, index: int) -> Image.Image:
    if kind == "pdf":
        page = pdfium.PdfDocument(path)[index]
        width, height = page.get_size()
        scale = min(DPI / 72, (MAX_PIXELS / max(1.0, width * height)) ** 0.5)
        image: Image.Image = page.render(scale=scale, grayscale=True).to_pil()
        return image
    with Image.open(path) as picture:
        try:
            picture.seek(index)
        except EOFError:
            raise DocumentFault("damaged", f"The image has no page {index + 1}.") from None
        # A camera stores how it was held (EXIF orientation), and turns no pixel.
        return ImageOps.exif_transpose(picture).convert("L")


def picture_name(index: int) -> str:
    """Name of a page's picture in the folder of the document."""
    return f"page-{index}.png"


def tesseract_command(program: str, picture: Path, languages: str) -> list[str]:
    """The command that reads `picture` and writes its text and its table of words beside it."""
    return [program, str(picture), str(picture.with_suffix("")), "-l", languages, "txt", "tsv"]


def _run(program: str, picture: Path, languages: str) -> None:
    environment = {**os.environ, "OMP_THREAD_LIMIT": "1"}
    command = tesseract_command(program, picture, languages)
    try:
        subprocess.run(command, check=True, capture_output=True, env=environment, timeout=PAGE_TIMEOUT_S)
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["no reason given"]
        raise DocumentFault("ocr_failed", f"tesseract: {reason[0][:300]}") from None
    except subprocess.TimeoutExpired:
        raise DocumentFault("limit_time", f"tesseract took longer than {PAGE_TIMEOUT_S} s for one page.") from None


def _scores(table: str) -> list[float]:
    rows = [line.split("\t") for line in table.splitlines()[1:]]
    return [float(r[10]) for r in rows if len(r) == 12 and r[11].strip() and float(r[10]) >= 0]
