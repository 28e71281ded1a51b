"""The place of a signature in a PDF (ISO 32000-2 §12.8.1): a hexadecimal string of zeros, which no digest covers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from services.stage_worker.core.document_fault import DocumentFault


def digest_around(data: bytes, gap: Sequence[int]) -> str:
    """SHA-256 of all bytes outside the place, in hexadecimal. `gap`: its first byte, and the byte after it. Raises `crashed`.

    The worker computes it, so that a hostile reader cannot have another digest signed than that of the file it made.
    """
    start, end = gap
    place = data[start:end]
    if not 0 < start < end <= len(data) or place != b"<" + b"0" * (end - start - 2) + b">":
        raise DocumentFault("crashed", "The reader of this file left no place for the signature.")
    digest = hashlib.sha256(memoryview(data)[:start])
    digest.update(memoryview(data)[end:])
    return digest.hexdigest()


def fill_gap(data: bytes, gap: Sequence[int], signature: str) -> bytes:
    """The file with the signature (hexadecimal) in its place. Raises `crashed` for a signature that is too long."""
    start, end = gap
    room = end - start - 2
    if len(signature) > room:
        raise DocumentFault("crashed", "The signature is longer than its place.")
    return data[: start + 1] + signature.encode().ljust(room, b"0") + data[end - 1 :]
