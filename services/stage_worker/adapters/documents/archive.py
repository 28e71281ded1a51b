"""Conversion to PDF/A (ISO 19005-1, -2 and -3, conformance B). pikepdf writes, PDFium draws.

A page is kept when everything in it is known to conform (`archive_page.py`). Any other page becomes a picture with its words
under it (`archive_drawing.py`). `tests/integration/test_pdfa.py` checks the output with veraPDF.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pikepdf
import pypdfium2 as pdfium

from services.stage_worker.adapters.documents.archive_document import describe_document, remove_forbidden
from services.stage_worker.adapters.documents.archive_drawing import draw_page, word_font
from services.stage_worker.adapters.documents.archive_fonts import NotArchivable
from services.stage_worker.adapters.documents.archive_page import DocumentInspection
from services.stage_worker.adapters.documents.archive_pictures import shrink_pictures
from services.stage_worker.adapters.documents.pdf import META, as_properties, open_document
from services.stage_worker.adapters.documents.text import Report
from services.stage_worker.core.document_fault import DocumentFault

MAX_PAGES = 5000
SIDES = (3, 14_400)
"""Smallest and largest length of a page's side, in points (ISO 19005-2 §6.1.13)."""
Added = Callable[[pikepdf.Pdf], str | None]
"""Adds to the document once its pages conform. Returns what belongs into its XMP, or None."""


def archive(path: Path, config: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Write `output`: the document as PDF/A. `config`: `kind`, `part` (1, 2 or 3), `passwords`, and the keys of `make_archive`.

    Raises `password`, `damaged`, `unsupported_type`, `too_many_pages`, `conformance`.
    """
    part = int(config.get("part", 2))
    document, notes = open_document(path, config, report)
    with document:
        make_archive(document, path.parent, part, config, notes, report)
        count = len(document.pages)
    return {"properties": {"page_count": count, "pdf_a": f"PDF/A-{part}b", **as_properties(notes)}}


def make_archive(
    document: pikepdf.Pdf, folder: Path, part: int, config: Mapping[str, Any], notes: dict[str, str], report: Report,
    added: Added | None = None,
) -> None:  # fmt: skip
    """Turn an open document into PDF/A and write it to `folder/output`.

    `config`: `meta`, `linearize`, `longest_side` (pixels of a picture at most). Losses are added to `notes` (event code → text).
    """
    _measure(document)
    plain = folder / "plain.pdf"
    document.save(plain, encryption=False)
    remove_forbidden(document, part, notes)
    drawn = _draw_unfit_pages(document, plain, part, notes, report)
    if drawn and "/StructTreeRoot" in document.Root:
        del document.Root.StructTreeRoot
        notes["StructureRemoved"] = "The document's structure went with the pages that were drawn."
    if drawn and "/MarkInfo" in document.Root:
        del document.Root.MarkInfo
    for option, value in dict(config.get("meta", {})).items():
        if option in META:
            document.docinfo[META[option]] = str(value)
    describe_document(document, part, added(document) if added is not None else None)
    document.remove_unreferenced_resources()
    if config.get("longest_side"):
        shrink_pictures(document, int(config["longest_side"]))
    _save(document, folder / "output", part, bool(config.get("linearize", False)))


def _measure(document: pikepdf.Pdf) -> None:
    if len(document.pages) > MAX_PAGES:
        raise DocumentFault(
            "too_many_pages", f"The document has {len(document.pages)} pages; at most {MAX_PAGES} can be archived."
        )
    if not document.pages:
        raise DocumentFault("damaged", "The document has no pages.")
    for page in document.pages:
        if not all(
            SIDES[0] <= abs(float(s)) <= SIDES[1]
            for s in (page.mediabox[2] - page.mediabox[0], page.mediabox[3] - page.mediabox[1])
        ):
            raise DocumentFault("conformance", "A page is smaller or larger than PDF/A takes.")


def _save(document: pikepdf.Pdf, target: Path, part: int, linearize: bool) -> None:
    document.save(
        target, encryption=False, compress_streams=True, stream_decode_level=pikepdf.StreamDecodeLevel.generalized,
        object_stream_mode=pikepdf.ObjectStreamMode.disable, force_version="1.4" if part == 1 else "1.7", linearize=linearize,
    )  # fmt: skip
    try:
        with pikepdf.open(target, attempt_recovery=False) as made:
            whole = len(made.pages) == len(document.pages)
    except pikepdf.PdfError:
        whole = False
    if not whole:
        raise DocumentFault("damaged", "The document is too damaged to be archived.")


def _draw_unfit_pages(document: pikepdf.Pdf, plain: Path, part: int, notes: dict[str, str], report: Report) -> int:
    """Draw every page that cannot be kept. Returns their number."""
    inspection = DocumentInspection(document, part)
    unfit: dict[int, str] = {}
    fonts: dict[int, set[tuple[int, int]]] = {}
    for number, page in enumerate(document.pages):
        try:
            fonts[number] = inspection.inspect_page(page)
        except NotArchivable as reason:
            unfit[number] = str(reason)
        except Exception as error:  # noqa: BLE001 - a page that cannot be inspected can still be drawn
            unfit[number] = f"it cannot be looked through ({type(error).__name__})"
    wrong = inspection.fix_fonts()
    for number, keys in fonts.items():
        for key in keys & wrong.keys():
            unfit[number] = wrong[key]
    if unfit:
        _draw(document, plain, part, unfit, notes, report)
    return len(unfit)


def _draw(
    document: pikepdf.Pdf, plain: Path, part: int, unfit: Mapping[int, str], notes: dict[str, str], report: Report
) -> None:  # fmt: skip
    font = word_font(document, part)
    with pdfium.PdfDocument(plain) as pages:
        pages.init_forms()
        for done, number in enumerate(sorted(unfit)):
            seen = pages[number]
            if not draw_page(document, number, seen, font):
                notes["UnicodesIncomplete"] = "Some characters of drawn pages cannot be searched for."
            seen.close()
            report(done + 1, len(unfit))
    first = min(unfit)
    which = f"Page {first + 1} is" if len(unfit) == 1 else f"{len(unfit)} pages, the first of them page {first + 1}, are"
    notes["ContentRasterized"] = f"{which} drawn as a picture: {unfit[first]}."
