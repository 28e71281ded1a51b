"""What of a batch has not had its effect yet."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from enum import Enum
from functools import lru_cache

from sqlalchemy import Connection

from contracts import Message
from shared.database.store import mark_seen, unmark_seen
from shared.processing.inbox_by_offset import Place, mark_taken, sent_before, untake
from shared.processing.records import Inbound
from shared.processing.unit_of_work import Unit


class DedupPolicy(Enum):
    """How the inbox tells a repeat of a message, so that it changes nothing."""

    BY_ID = "id"
    """Wherever it stands."""
    BY_OFFSET = "place"
    """Where it stood the first time, at a small part of the cost: for messages whose handler tells by itself that they were sent twice."""
    NONE = "not at all"
    """The handler's own keys make a repeat change nothing."""


Inbox = DedupPolicy | Callable[[Message], DedupPolicy]
"""For all messages, or for each."""


def unseen(unit: Unit, inbound: Sequence[Inbound], inbox: Inbox) -> Sequence[Inbound]:
    """What the inbox does not hold yet, in its order, and whatever is none of its business. From now on it holds all of it."""
    kept = [inbox] * len(inbound) if isinstance(inbox, DedupPolicy) else [inbox(i.message) for i in inbound]
    by_place = [_place(i) for i, how in zip(inbound, kept, strict=True) if how is DedupPolicy.BY_OFFSET]
    by_id = [seen_key(i) for i, how in zip(inbound, kept, strict=True) if how is DedupPolicy.BY_ID]
    repeats = mark_taken(unit.connection, by_place, unit.now) if by_place else set()
    if not by_id and not repeats:
        return inbound
    unseen = mark_seen(unit.connection, by_id, unit.now) if by_id else set()
    todo: list[Inbound] = []
    for item, how in zip(inbound, kept, strict=True):
        if how is DedupPolicy.BY_OFFSET:
            if _place(item) in repeats:
                continue
        elif how is DedupPolicy.BY_ID:
            key = seen_key(item)
            if key not in unseen:
                continue
            unseen.discard(key)
        todo.append(item)
    return todo


def forget_parked(unit: Unit, parked: Sequence[Inbound]) -> None:
    """A parked message has had no effect: sent again one day, it must not be taken for a repeat."""
    unmark_seen(unit.connection, [seen_key(i) for i in parked])
    untake(unit.connection, [_place(i) for i in parked], unit.now)


def is_duplicate(connection: Connection, item: Inbound) -> bool:
    """True if a message that is deduplicated by offset was sent before: the same message has an earlier offset in its partition."""
    return sent_before(connection, _place(item))


def _place(item: Inbound) -> Place:
    return item.topic, item.partition, item.offset, seen_key(item)


def seen_key(item: Inbound) -> str:
    """A message's id in the inbox. Two types may share an id by a producer's mistake; a short word of the type keeps them apart."""
    return f"{item.message.message_id}|{_type_word(item.message.TYPE)}"


@lru_cache
def _type_word(type_: str) -> str:
    return f"{zlib.crc32(type_.encode()):08x}"
