"""Identity of work: ids derived from their cause, so that a replay makes the same ids again (practice 6)."""

from __future__ import annotations

from hashlib import sha1
from uuid import NAMESPACE_URL, uuid5

NAMESPACE = uuid5(NAMESPACE_URL, "urn:stageline:ids")
"""Never change it: every derived id, and with it every consumer's de-duplication, hangs on it."""

_BEGUN = sha1(NAMESPACE.bytes, usedforsecurity=False)
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def derived(cause: str, *role: str | int) -> str:
    """Name of a consequence: the UUIDv5 of `cause` and the role of the output. Same input, same id, for ever.

    Follows RFC 9562 §5.5; written out because `uuid.uuid5` costs twice as much on the hot path.
    """
    begun = _BEGUN.copy()
    begun.update("\x1f".join([cause, *map(str, role)]).encode())
    h = begun.hexdigest()
    return f"{h[:8]}-{h[8:12]}-5{h[13:16]}-{_VARIANT[h[16]]}{h[17:20]}-{h[20:32]}"
