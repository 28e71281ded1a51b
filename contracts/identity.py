"""Ids that are derived from their cause, so that a replay makes the same ids again."""

from __future__ import annotations

from uuid import NAMESPACE_URL, uuid5

NAMESPACE = uuid5(NAMESPACE_URL, "urn:stageline:ids")
"""Never change it: every derived id, and with it every consumer's deduplication, depends on it."""


def derived(cause: str, *role: str | int) -> str:
    """The id of an output: UUIDv5 of the `cause`'s id and the output's `role`. Equal input gives an equal id."""
    return str(uuid5(NAMESPACE, "\x1f".join([cause, *map(str, role)])))
