"""The store on PostgreSQL: one schema for each service, over asyncpg in the event loop."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeVar

import asyncpg
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from shared.database.faults import UNAVAILABLE, ConstraintViolated, breaks_connection, meaning
from shared.database.store import Store
from shared.database.tls import tls_of
from shared.errors import Retry

T = TypeVar("T")
_ON_CLOSING = (SQLAlchemyError, OSError, TimeoutError, asyncpg.InternalClientError, asyncpg.InterfaceError)
_STATE = text("SELECT current_setting('transaction_read_only') = 'on'")


class PostgresStore(Store):
    """A schema in a PostgreSQL database, named by `?schema=` in the URL."""

    shared = True

    def __init__(self, url: URL) -> None:
        super().__init__()
        self.schema = str(url.query.get("schema", "public"))
        settings = {
            "search_path": self.schema, "application_name": f"stageline-{self.schema}", "lock_timeout": "20s",
            # A replica that is stopped within a transaction loses its locks.
            "idle_in_transaction_session_timeout": "4s",
            # The statements are small: compiling them costs more than it saves.
            "jit": "off",
        }  # fmt: skip
        url, tls = tls_of(url)
        self.engine: AsyncEngine = create_async_engine(
            url.difference_update_query(["schema"]), pool_size=8, max_overflow=2, pool_pre_ping=False, pool_recycle=1800,
            connect_args={"server_settings": settings, "timeout": 10, "command_timeout": 30, **tls},
        )  # fmt: skip
        self.reading = self.engine.execution_options(isolation_level="AUTOCOMMIT")

    async def prepare(self) -> None:
        # IF NOT EXISTS alone would need the right to create schemas, also where the schema exists.
        def make(connection: Connection) -> None:
            if connection.execute(text("SELECT to_regnamespace(:s)"), {"s": f'"{self.schema}"'}).scalar() is None:
                connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{self.schema}"'))

        try:
            await self.transact(make)
        except ConstraintViolated:
            # Another replica made it at the same moment: IF NOT EXISTS does not wait for that.
            await self.transact(make)

    async def transact(self, work: Callable[[Connection], T]) -> T:
        async with self.transaction() as connection:
            return await connection.run_sync(work)

    async def begin(self, work: Callable[[Connection], T]) -> tuple[T, AsyncConnection]:
        """As `transact`; also returns the session, which the caller closes or abandons."""
        with self.watched(writing=True):
            connection = await self.engine.connect()
            try:
                async with connection.begin():
                    return await connection.run_sync(work), connection
            except BaseException:
                await abandon(connection)
                raise

    async def read(self, work: Callable[[Connection], T]) -> T:
        # Without a transaction a read is one round instead of three, and sees the same: all that is committed.
        async with self._session(self.reading, writing=False) as connection:
            return await connection.run_sync(work)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """A transaction in which the caller may await other work (`shared/processing/outbox_shared.py`). Raises as `transact`."""
        async with self._session(self.engine, writing=True) as connection, connection.begin():
            yield connection

    @contextlib.asynccontextmanager
    async def _session(self, engine: AsyncEngine, writing: bool) -> AsyncIterator[AsyncConnection]:
        with self.watched(writing):
            connection = await engine.connect()
            try:
                yield connection
            except BaseException as error:
                # A connection that broke within a statement answers every later one with an error, so it must not return to the pool.
                await (abandon if breaks_connection(error) else _close)(connection)
                raise
            await connection.close()

    @contextlib.contextmanager
    def watched(self, writing: bool) -> Iterator[None]:
        """Context manager around requests: errors are translated (`translated_errors`), and the database's health is noted."""
        try:
            with translated_errors():
                yield
        except Retry as error:
            if error.code == UNAVAILABLE:
                self.availability.failed(str(error), writing)
            raise
        self.availability.worked(writing)

    async def look_at_health(self) -> None:
        def look(connection: Connection) -> None:
            if connection.execute(_STATE).scalar():
                raise Retry(UNAVAILABLE, "the database is read-only")

        # Within a transaction, whose end shows that the server can write where it must.
        await self.transact(look)

    async def close(self) -> None:
        await self.engine.dispose()


async def abandon(connection: AsyncConnection) -> None:
    """End a session on the server, which releases its locks."""
    with contextlib.suppress(*_ON_CLOSING):
        await connection.invalidate()
    await _close(connection)


async def _close(connection: AsyncConnection) -> None:
    # The pool gives up a connection that cannot be closed. The error that led here is the one to tell.
    with contextlib.suppress(*_ON_CLOSING):
        await connection.close()


@contextlib.contextmanager
def translated_errors() -> Iterator[None]:
    """Translate database errors: `Retry` for what a later try may cure, `DeadLetter` for values that the database never accepts, `Stop` for
    what no try can cure. Other errors are raised as they are."""
    try:
        yield
    except Exception as error:
        outcome = meaning(error)
        if outcome is None:
            raise
        raise outcome from error
