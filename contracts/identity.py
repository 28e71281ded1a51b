"""Identity of work: ids derived from their cause, so that a replay makes the same ids again (practice 6)."""

from __future__ import annotations

from hashlib import sha1
from uuid import NAMESPACE_URL, uuid5

NAMESPACE = uuid5(NAMESPACE_URL, "urn:stageline:ids")
"""Never change it: every derived id, and with it every consumer's de-duplication, hangs on it."""

_PREFIX = NAMESPACE.bytes


def derived(cause: str, *role: str | int) -> str:
    """Name of a consequence: the UUIDv5 of `cause` and the role of the output. Same input, same id, for ever.

    Follows RFC 9562 §5.5; written out because `uuid.uuid5` costs twice as much on the hot path.
    """
    digest = bytearray(sha1(_PREFIX + "\x1f".join((cause, *map(str, role))).encode(), usedforsecurity=False).digest()[:16])
    digest[6] = (digest[6] & 0x0F) | 0x50
    digest[8] = (digest[8] & 0x3F) | 0x80
    h = digest.hex()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"
