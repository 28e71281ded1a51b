"""Identity of work: ids derived from their cause, so that a replay makes the same ids again (practice 6)."""

from __future__ import annotations

from uuid import NAMESPACE_URL, uuid5

NAMESPACE = uuid5(NAMESPACE_URL, "urn:stageline:ids")
"""Never change it: every derived id, and with it every consumer's deduplication, depends on it."""


def derived(cause: str, *role: str | int) -> str:
    """The id of a consequence: the UUIDv5 of `cause` and the role of the output. The same input always gives the same id."""
    return str(uuid5(NAMESPACE, "\x1f".join([cause, *map(str, role)])))
