"""Refuses harmful documents before they are opened: encrypted, damaged, bombs. The step's config may change limits."""

from __future__ import annotations

import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pikepdf
from PIL import Image, UnidentifiedImageError

from services.stage_worker.core.document_fault import DocumentFault

MAX_PAGES = 5_000
MAX_PIXELS = 100_000_000
MAX_ZIP_ENTRIES = 10_000
MAX_ZIP_BYTES = 512 * 1024 * 1024
MAX_ZIP_RATIO = 100
PROBE_BYTES = 64 * 1024 * 1024
MAX_STREAM_RATIO = 1000


def guard(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Returns `{properties: {page_count}}`. Raises `encrypted`, `damaged`, `too_many_pages`, `bomb`, `too_many_pixels`."""
    check = {"pdf": _pdf, "docx": _zip, "xlsx": _zip, "image": _image}.get(str(config.get("kind")))
    return check(path, config) if check else {}


def _pdf(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    try:
        with pikepdf.open(path) as pdf:
            pages = len(pdf.pages)
            _probe_streams(pdf)
            restricted = pdf.is_encrypted
    except pikepdf.PasswordError:
        raise DocumentFault("encrypted", "The PDF is protected by a password; send it without, or with the password.") from None
    except pikepdf.PdfError as error:
        raise DocumentFault("damaged", f"The PDF is damaged and cannot be opened: {str(error).split('input: ')[-1]}") from None
    limit = int(config.get("max_pages", MAX_PAGES))
    if pages == 0:
        raise DocumentFault("damaged", "The PDF is damaged: it has no pages.")
    if pages > limit:
        raise DocumentFault("too_many_pages", f"The PDF has {pages} pages; the limit is {limit}.")
    return {"properties": {"page_count": pages, **({"restricted": True} if restricted else {})}, "page_count": pages}


def _probe_streams(pdf: pikepdf.Pdf) -> None:
    # A bomb is a stream whose length in the file is small and whose content is huge.
    for obj in pdf.objects:
        if isinstance(obj, pikepdf.Stream) and int(obj.get("/Length", 0)) > 100_000:
            filters = str(obj.get("/Filter", ""))
            if "/FlateDecode" in filters and "/DCTDecode" not in filters and "/Image" not in str(obj.get("/Subtype", "")):
                _inflate(obj.read_raw_bytes())


def _inflate(raw: bytes) -> None:
    inflater, size = zlib.decompressobj(), 0
    data = raw
    while data and not inflater.eof:
        try:
            size += len(inflater.decompress(data, 1 << 20))
        except zlib.error:
            return
        data = inflater.unconsumed_tail
        if size > PROBE_BYTES and size > MAX_STREAM_RATIO * len(raw) // 2:
            raise DocumentFault("bomb", f"A stream of {len(raw)} bytes opens into more than {size} bytes.")


def _zip(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    try:
        entries = zipfile.ZipFile(path).infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise DocumentFault("damaged", f"The Office document is damaged: {error}") from None
    total = sum(e.file_size for e in entries)
    packed = sum(e.compress_size for e in entries) or 1
    if len(entries) > MAX_ZIP_ENTRIES:
        raise DocumentFault("bomb", f"The document holds {len(entries)} parts; the limit is {MAX_ZIP_ENTRIES}.")
    if total > MAX_ZIP_BYTES or (total > 1 << 20 and total // packed > MAX_ZIP_RATIO):
        raise DocumentFault("bomb", f"The document opens from {packed} into {total} bytes, which is refused as a bomb.")
    if any(e.filename.startswith("/") or ".." in e.filename.split("/") for e in entries):
        raise DocumentFault("bomb", "The document names parts outside of itself.")
    return {}


def _image(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    try:
        with Image.open(path) as image:
            width, height = image.size
            frames = getattr(image, "n_frames", 1)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DocumentFault("too_many_pixels", f"The image has more than {MAX_PIXELS} pixels.") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DocumentFault("damaged", f"The image is damaged: {error}") from None
    return {"properties": {"width": width, "height": height, "page_count": frames}, "page_count": frames}
