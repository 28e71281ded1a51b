"""Parses and checks the headers of tus 1.0.0 (tus.io/protocols/resumable-upload). Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,creation-defer-length,expiration,checksum,termination,concatenation"
ALGORITHMS = ("md5", "sha1", "sha256")
MAX_SIZE = 1 << 50
MAX_PARTIALS = 1000
_NUMBER = re.compile(r"\d{1,16}")
_KEY = re.compile(r"[\x21-\x2b\x2d-\x7e]{1,100}")


class BadHeader(ValueError):
    """A header violates the protocol; the text begins with its name."""


def number(headers: Mapping[str, str], name: str) -> int | None:
    """A header with a number of bytes; None when it is absent. Raises `BadHeader`."""
    value = headers.get(name)
    if value is None:
        return None
    if not _NUMBER.fullmatch(value) or int(value) > MAX_SIZE:
        raise BadHeader(f"{name}: a non-negative number is expected")
    return int(value)


def metadata(value: str) -> dict[str, str]:
    """`Upload-Metadata`: comma-separated pairs of a key and an optional base64 value. Raises `BadHeader`."""
    found: dict[str, str] = {}
    for pair in value.split(",") if value.strip() else ():
        key, _, encoded = pair.strip().partition(" ")
        if not _KEY.fullmatch(key) or key in found:
            raise BadHeader("Upload-Metadata: keys are ASCII without spaces and commas, and each appears once")
        try:
            found[key] = base64.b64decode(encoded, validate=True).decode()
        except (binascii.Error, ValueError):
            raise BadHeader(f"Upload-Metadata: {key}: base64 of text in UTF-8 is expected") from None
        if "\x00" in found[key]:
            raise BadHeader(f"Upload-Metadata: {key}: U+0000 is not allowed")
    return found


def checksum(value: str | None) -> tuple[str, bytes] | None:
    """`Upload-Checksum`: algorithm and digest; None when it is absent. Raises `BadHeader`."""
    if value is None:
        return None
    algorithm, _, encoded = value.strip().partition(" ")
    if algorithm not in ALGORITHMS:
        raise BadHeader(f"Upload-Checksum: one of {', '.join(ALGORITHMS)} is expected")
    try:
        return algorithm, base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise BadHeader("Upload-Checksum: base64 is expected") from None


def concat(value: str | None) -> tuple[str, list[str]]:
    """`Upload-Concat`: ("partial", []), or ("final", the ids in its URLs); ("", []) when it is absent. Raises `BadHeader`."""
    if value is None:
        return "", []
    if value.strip() == "partial":
        return "partial", []
    kind, _, urls = value.strip().partition(";")
    ids = [url.rstrip("/").rpartition("/")[2] for url in urls.split()]
    if kind != "final" or not 0 < len(ids) <= MAX_PARTIALS or len(set(ids)) != len(ids):
        raise BadHeader(f"Upload-Concat: partial, or final; and 1 to {MAX_PARTIALS} different URLs are expected")
    return "final", ids
