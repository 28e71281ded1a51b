"""Ids that are derived from their cause, so that a replay makes the same ids again."""

from __future__ import annotations

import re
from hashlib import sha1
from uuid import NAMESPACE_URL, uuid5

NAMESPACE = uuid5(NAMESPACE_URL, "urn:stageline:ids")
"""Never change it: every derived id, and with it every consumer's deduplication, depends on it."""
_SEED = sha1(NAMESPACE.bytes, usedforsecurity=False)
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


PLATFORM_TENANT = "default"
"""The tenant whose admins and operators act for all tenants."""

PRIVATE_WORKFLOWS = "tenant."
"""Prefix of the names of workflows that belong to the tenant which published them first. All others are the platform's."""


_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def plain_id(text: str) -> str:
    """An id as it is kept: a UUID in small letters (RFC 9562 §4 lets clients write either), other text as it is."""
    return text.lower() if _UUID.fullmatch(text) else text


def derived(cause: str, *role: str | int) -> str:
    """The id of an output: UUIDv5 of the `cause`'s id and the output's `role`. Equal input gives an equal id.

    Follows RFC 9562 §5.5. `uuid.uuid5` gives the same id, but takes four times as long, and a job of five steps needs nineteen.
    """
    digest = _SEED.copy()
    digest.update("\x1f".join([cause, *map(str, role)]).encode())
    h = digest.hexdigest()
    return f"{h[:8]}-{h[8:12]}-5{h[13:16]}-{_VARIANT[h[16]]}{h[17:20]}-{h[20:32]}"
