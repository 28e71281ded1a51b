"""A service's own database: one writer transaction per batch holding what was seen, the new state and the outbox.

`transact` takes a plain function over a SQLAlchemy connection and runs it on the one writer thread; thereby a whole
batch costs a single hop and, on SQLite in WAL mode with `synchronous=FULL`, a single fsync.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, MetaData, Table, create_engine, event, func, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from sqlmodel import Field, SQLModel

from shared.errors import Retry, Stop

T = TypeVar("T")


class SeenRow(SQLModel, table=True):
    """Inbox: ids of the messages whose effects are in this database."""

    __tablename__ = "seen"
    message_id: str = Field(primary_key=True)
    seen_at: float = Field(index=True)
    __table_args__ = {"sqlite_with_rowid": False}


class OutboxRow(SQLModel, table=True):
    """Messages decided but perhaps not yet acknowledged by Kafka, in the order of their decision within a shard."""

    __tablename__ = "outbox"
    id: int | None = Field(default=None, primary_key=True)
    shard: str = Field(index=True)
    topic: str
    key: bytes
    value: bytes
    headers: str
    created_at: float


SEEN: Table = SeenRow.__table__  # type: ignore[attr-defined]
OUTBOX: Table = OutboxRow.__table__  # type: ignore[attr-defined]


def table_of(model: type[SQLModel]) -> Table:
    """The Core table behind a model: hot paths write rows, not objects."""
    table: Table = model.__table__  # type: ignore[attr-defined]
    return table


def _pragmas(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "busy_timeout=5000",
        "foreign_keys=ON",
        "cache_size=-16000",
        "wal_autocheckpoint=4000",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        raise Stop("unsupported_database", f"{parsed.get_backend_name()}: this version stores in SQLite only")
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"check_same_thread": False})
    event.listen(engine, "connect", _pragmas)
    return engine


class Store:
    """One database. `url` as SQLAlchemy writes it; `models` are the tables to create."""

    def __init__(self, url: str, models: Iterable[type[SQLModel]]) -> None:
        self.engine = _engine(url)
        metadata: MetaData = SQLModel.metadata
        tables = [SEEN, OUTBOX, *(table_of(m) for m in models)]
        metadata.create_all(self.engine, tables=tables)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store-writer")
        self._readers = ThreadPoolExecutor(4, thread_name_prefix="store-reader")

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one durable transaction. Raises `Retry` when the database is busy, full or away."""
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._in_transaction, work)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run a read beside the writer; sees every transaction that has ended."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._in_read, work)

    def _in_transaction(self, work: Callable[[Connection], T]) -> T:
        try:
            with self.engine.begin() as connection:
                return work(connection)
        except OperationalError as error:
            raise Retry("store_unavailable", str(error.orig)) from error

    def _in_read(self, work: Callable[[Connection], T]) -> T:
        try:
            with self.engine.connect() as connection:
                return work(connection)
        except OperationalError as error:
            raise Retry("store_unavailable", str(error.orig)) from error

    def close(self) -> None:
        """Wait for the running transaction, then let go of the files."""
        self._writer.shutdown(wait=True)
        self._readers.shutdown(wait=True)
        self.engine.dispose()


_MARK = text(
    "INSERT INTO seen (message_id, seen_at) SELECT DISTINCT value, :at FROM json_each(:ids) WHERE true "
    "ON CONFLICT DO NOTHING RETURNING message_id"
)


def mark_seen(connection: Connection, ids: Sequence[str], at: float) -> set[str]:
    """Enter `ids` into the inbox; returns those that were not there. The caller acts on these alone."""
    return set(connection.execute(_MARK, {"at": at, "ids": json.dumps(ids)}).scalars())


def unmark_seen(connection: Connection, ids: Sequence[str]) -> None:
    """Take ids out of the inbox again."""
    if ids:
        connection.execute(SEEN.delete().where(SEEN.c.message_id.in_(ids)))


def forget_seen(connection: Connection, before: float, limit: int = 5000) -> int:
    """Drop inbox rows older than any possible redelivery; returns how many."""
    old = select(SEEN.c.message_id).where(SEEN.c.seen_at < before).limit(limit)
    return connection.execute(SEEN.delete().where(SEEN.c.message_id.in_(old))).rowcount


def outbox_depth(connection: Connection) -> tuple[int, float | None]:
    """Rows waiting and the time of the oldest."""
    row = connection.execute(select(func.count(), func.min(OUTBOX.c.created_at))).one()
    return int(row[0]), row[1]
