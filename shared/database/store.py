"""A service's own database: one writer transaction per batch holding what was seen, the new state and the outbox.

`transact` takes a plain function over a SQLAlchemy connection. On SQLite (WAL, `synchronous=FULL`) it runs on the one writer
thread, so that a whole batch costs a single hop and a single fsync. On PostgreSQL it runs over asyncpg in the event loop, in a
schema of the service's own, and replicas meet only in row and advisory locks (`shared/database/statements.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from sqlalchemy import BigInteger, Connection, Integer, Table
from sqlmodel import Field, SQLModel

from shared.database.statements import Statement, as_list

T = TypeVar("T")
BIG_ID = BigInteger().with_variant(Integer, "sqlite")
"""A counted id: 64 bits in both databases (in SQLite only `INTEGER` counts by itself, and is as wide)."""


class SeenRow(SQLModel, table=True):
    """Inbox: ids of the messages whose effects are in this database."""

    __tablename__ = "seen"
    message_id: str = Field(primary_key=True)
    seen_at: float = Field(index=True)
    __table_args__ = {"sqlite_with_rowid": False}


class TakenRow(SQLModel, table=True):
    """Inbox by place (`shared/processing/inbox_by_offset.py`): the records of one partition that one transaction took, `marks` of them as pairs of the distance
    from `first_offset` and the CRC-32 of the message's id and type, all little-endian."""

    __tablename__ = "taken"
    partition_name: str = Field(primary_key=True)
    last_offset: int = Field(primary_key=True, sa_type=BigInteger)
    first_offset: int = Field(sa_type=BigInteger)
    marks: bytes
    taken_at: float = Field(index=True)
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


SEEN: Table = SeenRow.__table__  # type: ignore[attr-defined]
TAKEN: Table = TakenRow.__table__  # type: ignore[attr-defined]
OUTBOX_BATCH: Table = OutboxBatchRow.__table__  # type: ignore[attr-defined]
RUNTIME_TABLES = (SEEN, TAKEN, OUTBOX_BATCH)
"""Tables of the runtime, in every service's database."""


def table_of(model: type[SQLModel]) -> Table:
    """The Core table behind a model: hot paths write rows, not objects."""
    table: Table = model.__table__  # type: ignore[attr-defined]
    return table


class Store:
    """One database, of which other processes may be users too when `shared`."""

    shared = False

    async def prepare(self) -> None:
        """Make room for our tables, where that is not done by opening."""

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one durable transaction. Raises `Retry` when the database is busy, full or away."""
        raise NotImplementedError

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run a read beside the writer; sees every transaction that has ended."""
        raise NotImplementedError

    async def close(self) -> None:
        """Wait for the running transaction, then let go."""
        raise NotImplementedError


_MARK = Statement(
    "INSERT INTO seen (message_id, seen_at) SELECT DISTINCT value, CAST(:at AS double precision) FROM [ids] WHERE true "
    "ORDER BY 1 ON CONFLICT DO NOTHING RETURNING message_id"
)


def mark_seen(connection: Connection, ids: Sequence[str], at: float) -> set[str]:
    """Enter `ids` into the inbox; returns those that were not there. The caller acts on these alone."""
    return {message_id for (message_id,) in _MARK.rows(connection, {"at": at, "ids": as_list(ids)})}


def unmark_seen(connection: Connection, ids: Sequence[str]) -> None:
    """Take ids out of the inbox again."""
    if ids:
        connection.execute(SEEN.delete().where(SEEN.c.message_id.in_(ids)))


_OLD = Statement("SELECT message_id FROM seen WHERE seen_at < :before ORDER BY seen_at LIMIT :limit /*FOR UPDATE SKIP LOCKED*/")
_FORGET = Statement("DELETE FROM seen WHERE message_id IN (SELECT value FROM [ids])")


def forget_seen(connection: Connection, before: float, limit: int) -> int:
    """Drop at most `limit` inbox rows older than any possible redelivery; returns how many. Replicas take different ones."""
    old = _OLD.run(connection, {"before": before, "limit": limit}).scalars().all()
    if old:
        _FORGET.run(connection, {"ids": as_list(old)})
    return len(old)
