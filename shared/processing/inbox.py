"""The inbox drops messages whose effects are in the database already."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from enum import Enum
from functools import lru_cache

from contracts import Message
from shared.database.store import mark_seen, unmark_seen
from shared.processing.records import Inbound
from shared.processing.unit_of_work import Unit


class DedupPolicy(Enum):
    """How duplicates of a message are recognised."""

    BY_ID = "id"
    """By message id."""
    NONE = "not at all"
    """By the handler's own keys; the inbox keeps no id."""


Inbox = DedupPolicy | Callable[[Message], DedupPolicy]
"""One policy for all messages, or a function that chooses for each."""


def unseen(unit: Unit, inbound: Sequence[Inbound], inbox: Inbox) -> Sequence[Inbound]:
    """Add the batch to the inbox; returns the messages that are new or without deduplication, in their order."""
    policies = [inbox] * len(inbound) if isinstance(inbox, DedupPolicy) else [inbox(i.message) for i in inbound]
    keys = [seen_key(i) if policy is DedupPolicy.BY_ID else None for i, policy in zip(inbound, policies, strict=True)]
    by_id = [key for key in keys if key is not None]
    if not by_id:
        return inbound
    new = mark_seen(unit.connection, by_id, unit.now)
    todo: list[Inbound] = []
    for item, key in zip(inbound, keys, strict=True):
        if key is not None:
            if key not in new:
                continue
            new.discard(key)
        todo.append(item)
    return todo


def forget_parked(unit: Unit, parked: Sequence[Inbound]) -> None:
    """Remove dead-lettered messages from the inbox: they had no effect, so a redrive is no duplicate."""
    unmark_seen(unit.connection, [seen_key(i) for i in parked])


def seen_key(item: Inbound) -> str:
    """A message's id in the inbox. It has a hash of the type, because a producer may give one id to messages of two types."""
    return f"{item.message.message_id}|{_type_word(item.message.TYPE)}"


@lru_cache
def _type_word(type_: str) -> str:
    return f"{zlib.crc32(type_.encode()):08x}"
