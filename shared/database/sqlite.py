"""The store on SQLite: one file for each service, one writer thread, readers beside it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, OperationalError

from shared.database.faults import UNAVAILABLE, meaning
from shared.database.store import Store
from shared.errors import Retry

T = TypeVar("T")
GROUP = 64
"""Transactions that are committed together at most."""
Work = Callable[[Connection], Any]
Outcome = tuple[Any, BaseException | None]
"""The result of a transaction, or its error."""


def _pragmas(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "busy_timeout=5000",
        "foreign_keys=ON",
        "cache_size=-16000",
        "wal_autocheckpoint=4000",
        # Savepoints keep the pages they change, in files by default.
        "temp_store=MEMORY",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


class SqliteStore(Store):
    """A SQLite file in WAL mode with `synchronous=FULL`, one writer thread and four reader threads.

    Transactions that wait while the writer is busy are committed together, with one fsync. Each has a savepoint, so that one that
    raises leaves the others alone.
    """

    def __init__(self, url: URL) -> None:
        super().__init__()
        self.folder = Path(url.database).parent if url.database else None
        if url.database:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        self.engine: Engine = create_engine(url, connect_args={"check_same_thread": False}, pool_size=8)
        event.listen(self.engine, "connect", _pragmas)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store-writer")
        self._readers = ThreadPoolExecutor(4, thread_name_prefix="store-reader")
        self._waiting: deque[tuple[Work, asyncio.Future[Any]]] = deque()
        self._looking: Connection | None = None

    async def transact(self, work: Callable[[Connection], T]) -> T:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._waiting.append((work, done))
        self._writer.submit(self._write_waiting, loop)
        return await done

    async def read(self, work: Callable[[Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._in_read, work)

    async def look_up(self, work: Callable[[Connection], T]) -> T:
        if self._looking is None:
            # Without transactions each statement sees all that is committed.
            self._looking = self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        return self._translated(partial(work, self._looking), writing=False)

    async def look_at_health(self) -> None:
        if self.folder is not None and not await asyncio.to_thread(self.availability.check_space, self.folder):
            raise Retry(UNAVAILABLE, self.availability.reason or "")
        # A write that changes nothing: it needs the lock, a page in the log, and the disk.
        await self.transact(_write_nothing)

    def _write_waiting(self, loop: asyncio.AbstractEventLoop) -> None:
        """Commit what waits, unless an earlier call has done so. Runs in the writer thread."""
        waiting = [self._waiting.popleft() for _ in range(min(GROUP, len(self._waiting)))]
        # A caller that was cancelled meanwhile wants nothing written.
        group = [(work, done) for work, done in waiting if not done.done()]
        if group:
            loop.call_soon_threadsafe(_settle, [done for _, done in group], self._commit([work for work, _ in group]))

    def _commit(self, group: Sequence[Work]) -> list[Outcome]:
        try:
            return self._translated(partial(self._commit_together, group), writing=True)
        except BaseException as error:  # noqa: BLE001 - its caller gets it
            # SQLite may have rolled everything back, so no change of the group is kept.
            return [(None, error)] * len(group)

    def _commit_together(self, group: Sequence[Work]) -> list[Outcome]:
        with self.engine.begin() as connection:
            if len(group) == 1:
                return [(group[0](connection), None)]
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            return [_in_savepoint(connection, work) for work in group]

    def _in_read(self, work: Callable[[Connection], T]) -> T:
        def read() -> T:
            with self.engine.connect() as connection:
                return work(connection)

        return self._translated(read, writing=False)

    def _translated(self, request: Callable[[], T], writing: bool) -> T:
        """The result of a request to the database. Its errors are translated, and the database's health is noted."""
        try:
            result = request()
        except DBAPIError as error:
            outcome = meaning(error)
            if outcome is None:
                raise
            if isinstance(outcome, Retry):
                self.availability.failed(str(outcome), writing)
            raise outcome from error
        self.availability.worked(writing)
        return result

    async def close(self) -> None:
        await asyncio.to_thread(self._writer.shutdown, wait=True)
        await asyncio.to_thread(self._readers.shutdown, wait=True)
        if self._looking is not None:
            self._looking.close()
        self.engine.dispose()


def _write_nothing(connection: Connection) -> None:
    version = connection.exec_driver_sql("PRAGMA user_version").scalar()
    connection.exec_driver_sql(f"PRAGMA user_version = {int(version or 0)}")


def _in_savepoint(connection: Connection, work: Work) -> Outcome:
    connection.exec_driver_sql("SAVEPOINT one")
    try:
        result = work(connection)
    except OperationalError:
        raise
    except DBAPIError as error:
        connection.exec_driver_sql("ROLLBACK TO one")
        connection.exec_driver_sql("RELEASE one")
        return None, meaning(error) or error
    except BaseException as error:  # noqa: BLE001 - its caller gets it
        connection.exec_driver_sql("ROLLBACK TO one")
        connection.exec_driver_sql("RELEASE one")
        return None, error
    connection.exec_driver_sql("RELEASE one")
    return result, None


def _settle(callers: Sequence[asyncio.Future[Any]], outcomes: Sequence[Outcome]) -> None:
    for done, (result, error) in zip(callers, outcomes, strict=True):
        if done.done():
            continue
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)
