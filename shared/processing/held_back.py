"""Records that Kafka refuses for their own sake wait here, and hold back what has their topic, or their topic and key, alone."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, func, select

from shared.database.store import OUTBOX_HELD
from shared.kafka.outgoing import Outgoing
from shared.kafka.refusals import TOO_LARGE, Refused, reason_of
from shared.processing.outbox_codec import pack, unpack

log = logging.getLogger(__name__)
PAGE = 100
"""Rows that are read at a time."""


@dataclass(slots=True)
class Hold:
    """Why records of a topic wait. `since` in Unix seconds."""

    code: str
    records: int
    since: float


@dataclass(slots=True)
class HeldBack:
    """What is held back, as this process knows it. Other replicas learn of it when they read the table, or when Kafka refuses them too."""

    topics: dict[str, Hold] = field(default_factory=dict)
    keys: dict[str, set[bytes | None]] = field(default_factory=dict)
    """Topic → the keys that wait, for a topic that takes other records."""

    def reason(self, topic: str) -> str | None:
        """Why records of `topic` are held back; None while none is."""
        hold = self.topics.get(topic)
        return None if hold is None else reason_of(hold.code, topic)

    def facts(self) -> dict[str, Any]:
        """Topic → code, reason, number of records and since when: for an operator."""
        return {
            topic: {
                "code": hold.code, "reason": reason_of(hold.code, topic), "records": hold.records,
                "since": datetime.fromtimestamp(hold.since, UTC).isoformat(timespec="seconds"),
            }
            for topic, hold in self.topics.items()
        }  # fmt: skip

    def split(self, rows: Sequence[Outgoing]) -> tuple[list[Outgoing], list[Refused]]:
        """The rows that may be sent, and those that wait behind others."""
        if not self.topics:
            return list(rows), []
        free: list[Outgoing] = []
        behind: list[Refused] = []
        for row in rows:
            hold = self.topics.get(row.topic)
            if hold is None or (hold.code == TOO_LARGE and row.key not in self.keys.get(row.topic, ())):
                free.append(row)
            else:
                behind.append(Refused(row, hold.code))
        return free, behind

    def add(self, refused: Sequence[Refused], now: float) -> None:
        """Hold back what comes after these, too."""
        for one in refused:
            topic = one.row.topic
            if topic not in self.topics:
                log.error("records are held back", extra={"topic": topic, "code": one.code, "reason": one.reason})
            hold = self.topics.setdefault(topic, Hold(one.code, 0, now))
            hold.records += 1
            if one.code == TOO_LARGE:
                self.keys.setdefault(topic, set()).add(one.row.key)
            else:
                hold.code = one.code


def keep(connection: Connection, refused: Sequence[Refused], now: float) -> None:
    """Write refused records, in their order: one row for each topic and reason."""
    groups: dict[tuple[str, str], list[Outgoing]] = {}
    for one in refused:
        groups.setdefault((one.row.topic, one.code), []).append(one.row)
    for (topic, code), rows in groups.items():
        values = {"topic": topic, "code": code, "body": pack(rows), "records": len(rows), "created_at": now}
        connection.execute(OUTBOX_HELD.insert(), values)


def read(connection: Connection) -> HeldBack:
    """Everything that is held back."""
    held = HeldBack()
    t = OUTBOX_HELD.c
    for topic, code, records, since in connection.execute(
        select(t.topic, t.code, func.sum(t.records), func.min(t.created_at)).group_by(t.topic, t.code)
    ):
        known = held.topics.get(topic)
        # A reason that concerns the whole topic outweighs that of one record.
        shown = code if known is None or known.code == TOO_LARGE else known.code
        held.topics[topic] = Hold(
            shown, int(records) + (known.records if known else 0), min(since, known.since if known else since)
        )
    for topic, body in connection.execute(select(t.topic, t.body).where(t.code == TOO_LARGE)):
        held.keys.setdefault(topic, set()).update(row.key for row in unpack(body))
    return held


def page_of(connection: Connection, topic: str, after: int) -> list[tuple[int, list[Outgoing]]]:
    """Rows of a topic in their order, after the row `after`: id and records."""
    t = OUTBOX_HELD.c
    found = connection.execute(select(t.id, t.body).where(t.topic == topic, t.id > after).order_by(t.id).limit(PAGE))
    return [(id_, unpack(body)) for id_, body in found]


def put_back(connection: Connection, page: Sequence[tuple[int, Sequence[Outgoing]]], left: Mapping[int, str]) -> None:
    """Delete the records of a page that were sent. `left`: the codes of the others, by `id()` of the record."""
    for id_, rows in page:
        rest = [row for row in rows if id(row) in left]
        if not rest:
            connection.execute(OUTBOX_HELD.delete().where(OUTBOX_HELD.c.id == id_))
        else:
            values = {"code": left[id(rest[0])], "body": pack(rest), "records": len(rest)}
            connection.execute(OUTBOX_HELD.update().where(OUTBOX_HELD.c.id == id_).values(values))
