"""The media type of a file from its first bytes, else from its name. Pure: no parser of foreign bytes runs in the gateway."""

from __future__ import annotations

import mimetypes
import re

UNKNOWN = "application/octet-stream"
HEAD = 4096
"""Bytes that are looked at."""
_STARTS = (
    (b"%PDF-", "application/pdf"), (b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"),
    (b"II*\x00", "image/tiff"), (b"MM\x00*", "image/tiff"), (b"BM", "image/bmp"), (b"\x1f\x8b", "application/gzip"),
    (b"PK\x03\x04", "application/zip"), (b"PK\x05\x06", "application/zip"), (b"\xd0\xcf\x11\xe0", "application/x-ole-storage"),
)  # fmt: skip
_BOM = b"\xef\xbb\xbf"
_NAMES = mimetypes.MimeTypes()
"""Without the files of the machine, so that every machine gives the same answer."""
for _kind, _ending in (
    ("wordprocessingml.document", ".docx"),
    ("spreadsheetml.sheet", ".xlsx"),
    ("presentationml.presentation", ".pptx"),
):
    _NAMES.add_type(f"application/vnd.openxmlformats-officedocument.{_kind}", _ending)
_FORM = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,80}/[A-Za-z0-9!#$&^_.+-]{1,80}(\s*;\s*[A-Za-z0-9_-]+=\"?[A-Za-z0-9_ .:+-]*\"?)*")
_CONTAINERS = ("application/zip", "application/x-ole-storage")


def is_media_type(value: str) -> bool:
    """True for text that may stand in a `Content-Type` header."""
    return _FORM.fullmatch(value) is not None


def media_type_of(content: bytes, name: str) -> str:
    """The media type of a file. Text and containers are what the name says, if it says something that fits."""
    found = _by_content(content[:HEAD])
    named = _NAMES.guess_type(name)[0]
    if named is None:
        return found or UNKNOWN
    if found is None or (found == "text/plain" and not named.startswith(("image/", "audio/", "video/"))):
        return named
    return named if found in _CONTAINERS and named.startswith("application/") else found


def _by_content(head: bytes) -> str | None:
    for start, kind in _STARTS:
        if head.startswith(start):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    text = head.removeprefix(_BOM).lstrip()
    if text.startswith(b"<?xml"):
        return "application/xml"
    if text[:15].lower().startswith((b"<!doctype html", b"<html")):
        return "text/html"
    return _plain(head, text)


def _plain(head: bytes, text: bytes) -> str | None:
    if not head or b"\0" in head:
        return None
    try:
        # The last character may be cut off.
        head[: HEAD - 4].decode()
    except UnicodeDecodeError:
        return None
    return "application/json" if text[:1] in (b"{", b"[") and text.rstrip()[-1:] in (b"}", b"]") else "text/plain"
