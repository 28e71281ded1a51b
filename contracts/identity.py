"""Ids that are derived from their cause, so that a replay makes the same ids again."""

from __future__ import annotations

from hashlib import sha1
from uuid import NAMESPACE_URL, uuid5

NAMESPACE = uuid5(NAMESPACE_URL, "urn:stageline:ids")
"""Namespace of all derived ids. Never change it: consumers recognise duplicates by these ids."""

_BEGUN = sha1(NAMESPACE.bytes, usedforsecurity=False)
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def derived(cause: str, *role: str | int) -> str:
    """The id of an output: UUIDv5 (RFC 9562 §5.5) of the `cause`'s id and the output's `role`. Equal input gives an equal id.

    Written out because `uuid.uuid5` is slower and every message needs ids.
    """
    begun = _BEGUN.copy()
    begun.update("\x1f".join([cause, *map(str, role)]).encode())
    h = begun.hexdigest()
    return f"{h[:8]}-{h[8:12]}-5{h[13:16]}-{_VARIANT[h[16]]}{h[17:20]}-{h[20:32]}"
