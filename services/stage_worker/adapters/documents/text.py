"""Extracts the text of a document, page by page. PDFium reads PDFs; scanned pages are left to OCR."""

from __future__ import annotations

import email
import email.policy
import html
import re
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pypdfium2 as pdfium
from charset_normalizer import from_bytes
from PIL import Image

from services.stage_worker.adapters.documents.word import DamagedWord, read_word
from services.stage_worker.core.document_fault import DocumentFault

MAX_CHARACTERS = 20_000_000
MAX_CELLS = 2_000_000
MAX_PAGES = 5_000
OCR_BELOW = 30
"""A page with a picture and fewer characters than this counts as a scan."""

Report = Callable[[int, int | None], None]


def extract_text(path: Path, config: dict[str, Any], report: Report) -> dict[str, Any]:
    """Returns `{pages: [text…], needs_ocr: [page index…], tool}`. Raises `damaged`, `too_much_text`, `unsupported_type`."""
    kind = str(config.get("kind"))
    readers = {
        "pdf": _pdf,
        "docx": _docx,
        "xlsx": _xlsx,
        "html": _html,
        "email": _email,
        "text": _plain,
        "image": _image,
    }
    if kind not in readers:
        raise DocumentFault("unsupported_type", f"There is no text reader for {kind}.")
    return readers[kind](path, report)


def _bounded(parts: Iterator[str], separator: str) -> str:
    kept: list[str] = []
    size = 0
    for part in parts:
        size += len(part) + 1
        if size > MAX_CHARACTERS:
            raise DocumentFault("too_much_text", f"The document holds more than {MAX_CHARACTERS} characters.")
        kept.append(part)
    return separator.join(kept)


def _pdf(path: Path, report: Report) -> dict[str, Any]:
    try:
        document = pdfium.PdfDocument(path)
    except pdfium.PdfiumError as error:
        raise DocumentFault("damaged", f"The PDF cannot be opened: {error}") from None
    pages: list[str] = []
    scanned: list[int] = []
    total = len(document)
    for index in range(total):
        try:
            page = document[index]
            text = page.get_textpage().get_text_bounded()
        except pdfium.PdfiumError as error:
            raise DocumentFault("damaged", f"Page {index + 1} of {total} cannot be read: {error}") from None
        if len(text.strip()) < OCR_BELOW and _has_picture(page):
            scanned.append(index)
        pages.append(text.replace("\r\n", "\n").replace("\ufffe", "-\n"))
        if index % 50 == 49:
            report(index + 1, total)
    return {"pages": pages, "needs_ocr": scanned, "tool": f"pdfium {pdfium.PDFIUM_INFO}"}


def _has_picture(page: Any) -> bool:
    return next(iter(page.get_objects(filter=[pdfium.raw.FPDF_PAGEOBJ_IMAGE], max_depth=3)), None) is not None


def _image(path: Path, report: Report) -> dict[str, Any]:
    with Image.open(path) as picture:
        frames = getattr(picture, "n_frames", 1)
        # The frames of a TIFF are pages. Those of a GIF, a PNG or a WebP are one picture that moves.
        pages = min(frames, MAX_PAGES) if picture.format == "TIFF" else 1
    return {"pages": [""] * pages, "needs_ocr": list(range(pages)), "tool": "none"}


def _docx(path: Path, report: Report) -> dict[str, Any]:
    try:
        text = _bounded(iter([read_word(path, lambda markup: html_text(page_text(markup)))]), "")
    except DamagedWord as error:
        raise DocumentFault("damaged", f"The Word document cannot be read: {error}") from None
    return {"pages": [text], "needs_ocr": [], "tool": "lxml"}


def _xlsx(path: Path, report: Report) -> dict[str, Any]:
    import openpyxl

    try:
        # A stream, because openpyxl rejects paths without a known extension.
        with path.open("rb") as stream:
            book = openpyxl.load_workbook(stream, read_only=True, data_only=True)
            pages = [_bounded(_rows(sheet), "\n") for sheet in book.worksheets]
    except DocumentFault:
        raise
    except Exception as error:  # noqa: BLE001 - openpyxl passes on every exception of its parsers
        raise DocumentFault("damaged", f"The spreadsheet cannot be read: {error}") from None
    return {"pages": pages, "needs_ocr": [], "tool": f"openpyxl {openpyxl.__version__}"}


def _rows(sheet: Any) -> Iterator[str]:
    yield str(sheet.title)
    cells = 0
    for row in sheet.iter_rows(values_only=True):
        cells += len(row)
        if cells > MAX_CELLS:
            raise DocumentFault("too_much_text", f"The sheet {sheet.title!r} has more than {MAX_CELLS} cells.")
        values = ["" if v is None else str(v) for v in row]
        if any(values):
            yield "\t".join(values).rstrip("\t")


def decode(data: bytes, declared: str | None = None) -> str:
    """Decode bytes: by the declared encoding, then UTF-8, then the most likely one."""
    for encoding in (declared, "utf-8-sig"):
        try:
            if encoding:
                return data.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
    best = from_bytes(data[:1_000_000]).best()
    return data.decode(best.encoding if best else "latin-1", "replace")


def _plain(path: Path, report: Report) -> dict[str, Any]:
    text = _bounded(iter([decode(path.read_bytes())]), "")
    return {"pages": text.split("\f"), "needs_ocr": [], "tool": "text"}


_DECLARED = re.compile(rb"<(?:meta[^>]{0,300}?charset|\?xml[^>]{0,300}?encoding)\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]{1,40})", re.I)
_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def page_text(markup: bytes) -> str:
    """The characters of a page: by its byte order mark, else as UTF-8 where all of it is, else as it declares, else the most likely.

    Bytes that are UTF-8 are hardly ever anything else, whatever the page declares. `iso-8859-1` and `us-ascii` mean windows-1252
    (Encoding Standard).
    """
    for mark, encoding in _MARKS:
        if markup.startswith(mark):
            return markup.decode(encoding, "replace")
    try:
        return markup.decode()
    except UnicodeDecodeError:
        found = _DECLARED.search(markup[:4096])
        name = found[1].decode().lower() if found else None
        return decode(markup, "windows-1252" if name in ("iso-8859-1", "latin1", "us-ascii", "ascii") else name)


_DECLARATION = re.compile(r"\A\ufeff?\s*<\?xml[^>]{0,300}\?>")


def html_text(markup: bytes | str) -> str:
    """Readable text of an HTML document without scripts, styles and tags. Resolves no external entity, fetches nothing."""
    from lxml import html as parser
    from lxml.etree import ParserError

    options = parser.HTMLParser(no_network=True, huge_tree=False, remove_comments=True)
    try:
        # Characters have no encoding any more, and lxml refuses one that is declared.
        root = parser.document_fromstring(_DECLARATION.sub("", markup) if isinstance(markup, str) else markup, parser=options)
    except (ParserError, ValueError):
        return html.unescape(markup if isinstance(markup, str) else markup.decode("utf-8", "replace"))
    for element in root.xpath("//script|//style|//template|//noscript"):
        element.drop_tree()
    for element in root.xpath("//br|//p|//div|//tr|//li|//h1|//h2|//h3|//h4|//title|//table"):
        element.tail = "\n" + (element.tail or "")
    for element in root.xpath("//td|//th"):
        element.tail = "\t" + (element.tail or "")
    lines = (line.strip() for line in str(root.text_content()).splitlines())
    return "\n".join(line for line in lines if line)


def _html(path: Path, report: Report) -> dict[str, Any]:
    data = path.read_bytes()
    text = html_text(page_text(data))
    return {"pages": [_bounded(iter([text]), "")], "needs_ocr": [], "tool": "lxml"}


def _email(path: Path, report: Report) -> dict[str, Any]:
    message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    head = [f"{name}: {message[name]}" for name in ("From", "To", "Cc", "Date", "Subject") if message[name]]
    body = message.get_body(("plain", "html"))
    text = ""
    if body is not None:
        payload = body.get_payload(decode=True)
        raw = decode(payload if isinstance(payload, bytes) else b"", body.get_content_charset())
        text = html_text(raw) if body.get_content_type() == "text/html" else raw
    attached = [f"[attachment: {a.get_filename() or a.get_content_type()}]" for a in message.iter_attachments()]
    return {"pages": [_bounded(iter(["\n".join(head), "", text, *attached]), "\n")], "needs_ocr": [], "tool": "email"}
