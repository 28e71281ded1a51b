"""The store on PostgreSQL: a schema of the service's own, spoken to by asyncpg in the event loop."""

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
"""SQLSTATE of a text that PostgreSQL cannot hold, plain and in JSON."""
UNFIT = ("22", "23502", "23514")
"""SQLSTATE (classes) of values that no later try makes fit: out of range, missing, against a rule."""
TRANSIENT = ("08", "40", "53", "55", "57")
"""SQLSTATE classes that pass: connection, rollback (deadlock), resources, lock not available, operator intervention."""


class PostgresStore(Store):
    """A schema in a PostgreSQL database; `?schema=` of the URL names it, each service has its own."""

    shared = True

    def __init__(self, url: URL) -> None:
        self.schema = str(url.query.get("schema", "public"))
        settings = {
            "search_path": self.schema, "application_name": f"stageline-{self.schema}", "lock_timeout": "20s",
            # A replica that is stopped in the middle of a transaction must not hold its locks for ever.
            "idle_in_transaction_session_timeout": "4s",
            # Our statements are many and small; compiling only costs, most of all those by which asyncpg learns of types.
            "jit": "off",
        }  # fmt: skip
        self.engine: AsyncEngine = create_async_engine(
            url.difference_update_query(["schema"]), pool_size=8, max_overflow=2, pool_pre_ping=False, pool_recycle=1800,
            connect_args={"server_settings": settings, "timeout": 10, "command_timeout": 30},
        )  # fmt: skip
        self.reading = self.engine.execution_options(isolation_level="AUTOCOMMIT")

    async def prepare(self) -> None:
        # Not IF NOT EXISTS alone: even that needs the right to create, which a service may not have been given.
        def make(connection: Connection) -> None:
            if connection.execute(text("SELECT to_regnamespace(:s)"), {"s": f'"{self.schema}"'}).scalar() is None:
                connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{self.schema}"'))

        await self.transact(make)

    async def transact(self, work: Callable[[Connection], T]) -> T:
        async with self.transaction() as connection:
            return await connection.run_sync(work)

    async def begin(self, work: Callable[[Connection], T]) -> tuple[T, AsyncConnection]:
        """As `transact`; the session it ran in stays the caller's, to be closed or abandoned."""
        with passing():
            connection = await self.engine.connect()
            try:
                async with connection.begin():
                    return await connection.run_sync(work), connection
            except BaseException:
                await abandon(connection)
                raise

    async def read(self, work: Callable[[Connection], T]) -> T:
        with passing():
            # Each statement sees what is committed, in a transaction or not; without one it is one round instead of three.
            async with self.reading.connect() as connection:
                return await connection.run_sync(work)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that waits for other things too (`shared/processing/outbox_shared.py`). Raises `Retry` as `transact` does."""
        with passing():
            async with self.engine.begin() as connection:
                yield connection

    async def close(self) -> None:
        await self.engine.dispose()


async def abandon(connection: AsyncConnection) -> None:
    """End a session, and with it all that it holds."""
    with contextlib.suppress(DBAPIError, OSError):
        await connection.invalidate()
    await connection.close()


@contextlib.contextmanager
def passing() -> Iterator[None]:
    """Turns what passes by itself, or by trying again beside another replica, into `Retry`, and what never fits into `Park`; other faults
    go on as they are."""
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
            # Of a deadlock PostgreSQL says who waited for whom.
            detail = getattr(getattr(error.orig, "__cause__", None), "detail", None)
            raise Retry("store_unavailable", f"{error.orig}{f': {detail}' if detail else ''}"[:500]) from error
        raise
    except (OSError, TimeoutError) as error:
        raise Retry("store_unavailable", repr(error)) from error
