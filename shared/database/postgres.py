"""The store on PostgreSQL: one schema for each service, over asyncpg in the event loop."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeVar

from sqlalchemy import Connection, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from shared.database.store import Store
from shared.errors import DeadLetter, Retry

T = TypeVar("T")
NOT_TEXT = ("22021", "22P05")
"""SQLSTATE of a text that PostgreSQL cannot store (U+0000), plain and in JSON."""
UNFIT = ("22", "23502", "23514")
"""SQLSTATE or its class of values that PostgreSQL never accepts: out of range, missing, against a rule."""
TRANSIENT = ("08", "40", "53", "55", "57")
"""SQLSTATE classes worth a retry: connection, rollback (deadlock), resources, lock not available, operator intervention."""


class PostgresStore(Store):
    """A schema in a PostgreSQL database, named by `?schema=` in the URL."""

    shared = True

    def __init__(self, url: URL) -> None:
        self.schema = str(url.query.get("schema", "public"))
        settings = {
            "search_path": self.schema, "application_name": f"stageline-{self.schema}", "lock_timeout": "20s",
            # A replica that is stopped within a transaction loses its locks.
            "idle_in_transaction_session_timeout": "4s",
            # The statements are small: compiling them costs more than it saves.
            "jit": "off",
        }  # fmt: skip
        self.engine: AsyncEngine = create_async_engine(
            url.difference_update_query(["schema"]), pool_size=8, max_overflow=2, pool_pre_ping=False, pool_recycle=1800,
            connect_args={"server_settings": settings, "timeout": 10, "command_timeout": 30},
        )  # fmt: skip
        self.reading = self.engine.execution_options(isolation_level="AUTOCOMMIT")

    async def prepare(self) -> None:
        # IF NOT EXISTS alone would need the right to create schemas, also where the schema exists.
        def make(connection: Connection) -> None:
            if connection.execute(text("SELECT to_regnamespace(:s)"), {"s": f'"{self.schema}"'}).scalar() is None:
                connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{self.schema}"'))

        await self.transact(make)

    async def transact(self, work: Callable[[Connection], T]) -> T:
        async with self.transaction() as connection:
            return await connection.run_sync(work)

    async def begin(self, work: Callable[[Connection], T]) -> tuple[T, AsyncConnection]:
        """As `transact`; also returns the session, which the caller closes or abandons."""
        with translated_errors():
            connection = await self.engine.connect()
            try:
                async with connection.begin():
                    return await connection.run_sync(work), connection
            except BaseException:
                await abandon(connection)
                raise

    async def read(self, work: Callable[[Connection], T]) -> T:
        with translated_errors():
            # Without a transaction a read is one round instead of three, and sees the same: all that is committed.
            async with self.reading.connect() as connection:
                return await connection.run_sync(work)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """A transaction in which the caller may await other work (`shared/processing/outbox_shared.py`). Raises as `transact`."""
        with translated_errors():
            async with self.engine.begin() as connection:
                yield connection

    async def close(self) -> None:
        await self.engine.dispose()


async def abandon(connection: AsyncConnection) -> None:
    """End a session on the server, which releases its locks."""
    with contextlib.suppress(DBAPIError, OSError):
        await connection.invalidate()
    await connection.close()


@contextlib.contextmanager
def translated_errors() -> Iterator[None]:
    """Translate database errors: `Retry` for what a later try may cure, `DeadLetter` for values that the database never accepts.
    Other errors are raised as they are."""
    try:
        yield
    except DBAPIError as error:
        state = str(getattr(error.orig, "sqlstate", None) or "")
        if state in NOT_TEXT:
            raise DeadLetter("invalid_text", "a text holds the character U+0000, which cannot be kept") from error
        if state.startswith(UNFIT):
            raise DeadLetter("invalid_value", f"a value cannot be kept: {error.orig}"[:500]) from error
        known = state[:2] in TRANSIENT or error.connection_invalidated
        if known or isinstance(error, (OperationalError, InterfaceError, IntegrityError)):
            # For a deadlock the detail names the sessions that waited for each other.
            detail = getattr(getattr(error.orig, "__cause__", None), "detail", None)
            raise Retry("store_unavailable", f"{error.orig}{f': {detail}' if detail else ''}"[:500]) from error
        raise
    except (OSError, TimeoutError) as error:
        raise Retry("store_unavailable", repr(error)) from error
