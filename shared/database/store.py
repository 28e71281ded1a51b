"""A service's own database: the store's interface, and the tables of inbox and outbox.

`transact` runs a plain function over a SQLAlchemy connection in one transaction. On SQLite it runs on the one writer thread, so a
batch costs one thread hop and one fsync. On PostgreSQL it runs over asyncpg in the event loop, in the service's own schema;
replicas meet only in row locks and advisory locks (`shared/database/statements.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from sqlalchemy import BigInteger, Connection, Integer, Table
from sqlmodel import Field, SQLModel

from shared.availability import Availability
from shared.database.statements import Statement, as_list
from shared.errors import Retry

T = TypeVar("T")
PROBE_EVERY_S = 5.0
"""Least time between two looks at the health of a database."""
PROBE_S = 6.0
"""Longest look: longer than SQLite waits for a lock."""
BIG_ID = BigInteger().with_variant(Integer, "sqlite")
"""Type of an id that the database counts: 64 bits on both. SQLite counts only `INTEGER`, which has 64 bits there."""


class SeenRow(SQLModel, table=True):
    """Inbox: the id of a message whose effects are in this database."""

    __tablename__ = "seen"
    message_id: str = Field(primary_key=True)
    seen_at: float = Field(index=True)
    __table_args__ = {"sqlite_with_rowid": False}


class OutboxBatchRow(SQLModel, table=True):
    """The records that one transaction emits for one shard, in order, until Kafka has acknowledged them.

    `body` is written by `shared/processing/outbox_codec.py`; `records` is their number.
    """

    __tablename__ = "outbox_batch"
    id: int | None = Field(default=None, primary_key=True, sa_type=BIG_ID)
    shard: str = Field(index=True)
    body: str
    records: int
    created_at: float


class OutboxHeldRow(SQLModel, table=True):
    """Records of one topic that Kafka refuses while it takes others, in order, until it takes them.

    `code` is the reason (`shared/kafka/refusals.py`); the rest is as in `OutboxBatchRow`.
    """

    __tablename__ = "outbox_held"
    id: int | None = Field(default=None, primary_key=True, sa_type=BIG_ID)
    topic: str = Field(index=True)
    code: str
    body: str
    records: int
    created_at: float


SEEN: Table = SeenRow.__table__  # type: ignore[attr-defined]
OUTBOX_BATCH: Table = OutboxBatchRow.__table__  # type: ignore[attr-defined]
OUTBOX_HELD: Table = OutboxHeldRow.__table__  # type: ignore[attr-defined]
RUNTIME_TABLES = (SEEN, OUTBOX_BATCH, OUTBOX_HELD)
"""Tables of the runtime, in every service's database."""


def table_of(model: type[SQLModel]) -> Table:
    """The SQLAlchemy Core table of a model; hot paths write rows, not objects."""
    table: Table = model.__table__  # type: ignore[attr-defined]
    return table


class Store:
    """One database. Other processes may use it too if `shared`."""

    shared = False

    def __init__(self) -> None:
        self.availability = Availability("database")
        self._probed_at = float("-inf")

    async def database(self) -> str | None:
        """Health check: why the database does not work, for an operator; None while it does. Writes to it at most every `PROBE_EVERY_S`."""
        if time.monotonic() - self._probed_at >= PROBE_EVERY_S:
            self._probed_at = time.monotonic()
            with contextlib.suppress(Retry, TimeoutError):
                async with asyncio.timeout(PROBE_S):
                    await self.look_at_health()
        return self.availability.reason

    async def look_at_health(self) -> None:
        """Try to write. Raises `Retry` when that fails; `availability` then says why."""
        raise NotImplementedError

    async def prepare(self) -> None:
        """Create the service's schema, where there are schemas. Raises `Retry` when the database is away."""

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one durable transaction. Raises `Retry` when the database is busy, full or away."""
        raise NotImplementedError

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run a read beside the writer; sees all committed transactions. Raises `Retry` when the database is away."""
        raise NotImplementedError

    async def look_up(self, work: Callable[[Connection], T]) -> T:
        """As `read`, for a few rows by their keys: on SQLite it runs in the event loop, because a thread hop would cost more."""
        return await self.read(work)

    async def close(self) -> None:
        """Wait for the running transaction, then close all connections."""
        raise NotImplementedError


_MARK = Statement(
    "INSERT INTO seen (message_id, seen_at) SELECT DISTINCT value, CAST(:at AS double precision) FROM [ids] WHERE true "
    "ORDER BY 1 ON CONFLICT DO NOTHING RETURNING message_id"
)


def mark_seen(connection: Connection, ids: Sequence[str], at: float) -> set[str]:
    """Add `ids` to the inbox at Unix time `at`; returns those that are new. The caller handles these alone."""
    return {message_id for (message_id,) in _MARK.rows(connection, {"at": at, "ids": as_list(ids)})}


def unmark_seen(connection: Connection, ids: Sequence[str]) -> None:
    """Remove ids from the inbox."""
    if ids:
        connection.execute(SEEN.delete().where(SEEN.c.message_id.in_(ids)))


_OLD = Statement("SELECT message_id FROM seen WHERE seen_at < :before ORDER BY seen_at LIMIT :limit /*FOR UPDATE SKIP LOCKED*/")
_FORGET = Statement("DELETE FROM seen WHERE message_id IN (SELECT value FROM [ids])")


def forget_seen(connection: Connection, before: float, limit: int) -> int:
    """Delete at most `limit` inbox rows older than Unix time `before`; returns their number. Replicas delete different rows."""
    old = _OLD.run(connection, {"before": before, "limit": limit}).scalars().all()
    if old:
        _FORGET.run(connection, {"ids": as_list(old)})
    return len(old)
