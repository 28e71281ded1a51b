"""Detects the type of a file from its bytes: libmagic, and the ZIP directory for Office files. The client's claim does not count."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import pylibmagic  # noqa: F401 - provides libmagic where the system has none; must precede `magic`

import magic  # isort: skip

from services.stage_worker.core.document_fault import DocumentFault

_OFFICE = "application/vnd.openxmlformats-officedocument."
DOCX = _OFFICE + "wordprocessingml.document"
XLSX = _OFFICE + "spreadsheetml.sheet"
KINDS = {
    "application/pdf": "pdf", DOCX: "docx", XLSX: "xlsx", "text/html": "html", "application/xhtml+xml": "html",
    "message/rfc822": "email", "image/png": "image", "image/jpeg": "image", "image/tiff": "image", "image/gif": "image",
    "image/bmp": "image", "image/webp": "image", "application/json": "text", "application/csv": "text",
}  # fmt: skip
_MAIL_HEADER = re.compile(rb"\A(?:[A-Za-z][A-Za-z0-9-]*:[^\n]*\n(?:[ \t][^\n]*\n)*){3,}", re.M)


def identify(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Returns `{file: {content_type}, properties: {media_type, kind}, kind}`. Raises `unsupported_type`, `empty`, `encrypted`."""
    if path.stat().st_size == 0:
        raise DocumentFault("empty", "The file has no content (0 bytes).")
    mime, kind = detect(path)
    if kind is None:
        raise DocumentFault("unsupported_type", f"Files of type {mime} cannot be read by this workflow.")
    return {"file": {"content_type": mime}, "properties": {"media_type": mime, "kind": kind}, "kind": kind}


def detect(path: Path) -> tuple[str, str | None]:
    """Media type, and the kind of reader for it, or None if there is none."""
    with path.open("rb") as stream:
        head = stream.read(65_536)
    mime: str = magic.from_buffer(head, mime=True)
    if mime in ("application/zip", "application/octet-stream") and zipfile.is_zipfile(path):
        mime = _office(path) or mime
    if mime.startswith("application/vnd.openxmlformats"):
        mime = _office(path) or mime
    if mime in (
        "application/encrypted",
        "application/x-ole-storage",
        "application/CDFV2",
        "application/CDFV2-encrypted",
    ):
        _refuse_encrypted_office(head)
    if mime.startswith("text/") and _looks_like_mail(head):
        mime = "message/rfc822"
    kind = KINDS.get(mime) or ("text" if mime.startswith("text/") else None)
    if kind == "text" and b"\0" in head and head[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        # libmagic takes some binary headers for text. Only UTF-16 text has null bytes.
        return "application/octet-stream", None
    return mime, kind


def _office(path: Path) -> str | None:
    try:
        names = set(zipfile.ZipFile(path).namelist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return None
    if "word/document.xml" in names:
        return DOCX
    return XLSX if "xl/workbook.xml" in names else None


def _refuse_encrypted_office(head: bytes) -> None:
    # An encrypted Office file is an OLE container with this stream; its name is UTF-16.
    if "EncryptedPackage".encode("utf-16-le") in head:
        raise DocumentFault("encrypted", "The Office document is protected by a password; send it without, or with the password.")


def _looks_like_mail(head: bytes) -> bool:
    match = _MAIL_HEADER.match(head.replace(b"\r\n", b"\n"))
    block = match.group().lower() if match else b""
    return b"\nfrom:" in b"\n" + block and (b"\nsubject:" in b"\n" + block or b"\nto:" in b"\n" + block)
