"""Errors of a database: what waits, what stops the process, which record is at fault, and what health says, on both databases."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import PendingRollbackError

from contracts import CancelJob
from shared.database import postgres as pg
from shared.database import store as store_module
from shared.database.faults import ConstraintViolated
from shared.database.open import open_store
from shared.database.store import Store, mark_seen
from shared.errors import Retry, Stop
from shared.processing.processor import BatchProcessor
from shared.processing.records import Inbound
from shared.processing.unit_of_work import Unit
from shared.settings import Settings
from tests.conformance.conftest import Opener
from tests.unit.fake_relay import CANCEL, CREATE, NotingRelay, inbound

INSERT = text("INSERT INTO seen (message_id, seen_at) VALUES (:i, 4e9)")


def insert(*ids: str) -> Any:
    """A transaction's work: a row for each id, which the database refuses for one that is there."""
    return lambda c: [c.execute(INSERT, {"i": i}) for i in ids] and None


@pytest.mark.parametrize("query", ["SELECT * FROM nowhere", "SELECT missing_column FROM seen"])
@pytest.mark.parametrize("how", ["transact", "read", "look_up"])
async def test_a_missing_table_or_column_stops(opened: Opener, how: str, query: str) -> None:
    store = await opened("session")
    with pytest.raises(Stop) as found:
        await getattr(store, how)(lambda c: c.execute(text(query)).all())
    assert found.value.code == "database_misfit"
    assert await store.database() is None, "a wrong statement is no outage"


async def test_a_row_that_is_refused_stops_and_concerns_no_other_transaction(opened: Opener) -> None:
    store = await opened("session")
    await store.transact(insert("a"))
    work = [store.transact(insert(i)) for i in ("a", "b", "c")]
    refused, *others = await asyncio.gather(*work, return_exceptions=True)
    assert isinstance(refused, ConstraintViolated) and others == [None, None]


def processing(store: Store) -> tuple[BatchProcessor, Any]:
    """A processor whose relay notes what it would send."""
    relay = NotingRelay()
    return BatchProcessor("session", store, relay, relay.telemetry), relay


async def test_the_record_whose_row_is_refused_is_dead_lettered_alone(opened: Opener) -> None:
    store = await opened("session")
    await store.transact(insert("taken"))
    processor, relay = processing(store)

    def handler(unit: Unit, batch: Sequence[Inbound]) -> None:
        for item in batch:
            with item.guard():
                insert("taken" if isinstance(item.message, CancelJob) else "free")(unit.connection)

    await processor.process_batch(handler, inbound(CREATE, CANCEL), [], "g")
    [letter] = [row for row in relay.sent if row.topic.endswith(".dlq")]
    assert dict(letter.headers)["dlq-code"] == b"handler_error"
    assert dict(letter.headers)["ce_type"] == CANCEL.TYPE.encode()
    assert await store.read(lambda c: c.execute(text("SELECT count(*) FROM seen WHERE message_id = 'free'")).scalar()) == 1


async def test_a_lost_race_is_decided_again(opened: Opener) -> None:
    store = await opened("session")
    processor, relay = processing(store)
    tries: list[int] = []

    def handler(unit: Unit, batch: Sequence[Inbound]) -> None:
        tries.append(len(batch))
        insert("one", *(["one"] if len(tries) == 1 else []))(unit.connection)

    await processor.process_batch(handler, inbound(CREATE, CANCEL), [], "g")
    assert tries == [2, 2] and relay.sent == []


async def locked(store: Store) -> AsyncIterator[None]:
    """Lock the database, or make it read-only."""
    if isinstance(store, pg.PostgresStore):
        name = f"ALTER ROLE CURRENT_USER IN DATABASE {store.engine.url.database}"
        for statement in (f"{name} SET default_transaction_read_only = on", f"{name} RESET default_transaction_read_only"):
            # The role's setting counts for new sessions, and an administrator's session may overrule it.
            admin = await asyncpg.connect(store.engine.url.set(drivername="postgresql").render_as_string(hide_password=False))
            await admin.execute("SET default_transaction_read_only = off")
            await admin.execute(statement)
            await admin.close()
            await store.engine.dispose()
            if statement.endswith("on"):
                yield
        return
    other = store.engine.connect()  # type: ignore[attr-defined]
    other.exec_driver_sql("BEGIN EXCLUSIVE")
    yield
    other.rollback()
    other.close()


@pytest.mark.slow
async def test_health_says_that_a_database_is_locked_or_read_only_and_when_it_is_not(
    opened: Opener, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(store_module, "PROBE_EVERY_S", 0.0)
    store = await opened("session")
    assert await store.database() is None
    if not store.shared:
        await store.transact(lambda c: c.exec_driver_sql("PRAGMA busy_timeout = 10") and None)
    trouble = locked(store)
    await anext(trouble)
    try:
        reason = await store.database()
        assert reason is not None and reason.startswith("read-only:" if store.shared else "locked:")
        with pytest.raises(Retry):
            await store.transact(insert("a"))
        await store.read(lambda c: c.execute(text("SELECT 1")).scalar())
        assert await store.database() is not None, "a read that works is no proof that writes do"
    finally:
        await anext(trouble, None)
    assert await store.database() is None
    said = [r.getMessage() for r in caplog.records if r.name == "shared.availability"]
    assert said == [f"the database does not work: {reason.partition(':')[0]}", "the database works again"]


async def test_a_full_disk_is_named(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "PROBE_EVERY_S", 0.0)
    store = await opened("session")
    if store.shared:
        with pytest.raises(Retry), store.watched(writing=True):  # type: ignore[attr-defined]
            raise pg_error("53100", "could not extend file: No space left on device")
        assert str(store.availability.reason).startswith("disk full:")
    else:
        with monkeypatch.context() as patched:
            patched.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=4096))
            assert str(await store.database()).startswith("disk full:")
            await store.transact(insert("small"))
            assert await store.database() is not None
    assert await store.database() is None


def pg_error(sqlstate: str, message: str) -> Exception:
    """PostgreSQL's error as SQLAlchemy raises it."""
    from sqlalchemy.exc import DBAPIError

    return DBAPIError("INSERT", {}, type("Error", (Exception,), {"sqlstate": sqlstate})(message))


async def test_a_database_that_is_away_is_a_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(Settings(database_url="postgresql+asyncpg://u:p@127.0.0.1:1/x?schema=s").database_for("session"))
    assert str(await store.database()).startswith("away:")
    await store.close()


class Proxy:
    """A way to PostgreSQL on which answers can be held up, as they are for a process that is stopped."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.answering = asyncio.Event()
        self.answering.set()
        self.tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        """The proxy's URL of the database."""
        self.server = await asyncio.start_server(self.connect, "127.0.0.1", 0)
        port = self.server.sockets[0].getsockname()[1]
        return self.url.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(str(self.url.host), int(self.url.port or 5432))
        for source, target, answers in ((reader, there[1], False), (there[0], writer, True)):
            self.tasks.add(asyncio.create_task(self.pump(source, target, answers)))

    async def pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, answers: bool) -> None:
        try:
            while data := await source.read(65_536):
                if answers:
                    await self.answering.wait()
                target.write(data)
        except OSError:
            pass
        finally:
            target.close()

    async def close(self) -> None:
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@pytest.mark.parametrize("how", ["transact", "begin", "read"])
async def test_a_transaction_that_broke_is_a_retry_on_a_fresh_connection(
    postgres_url: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = pg.create_async_engine

    def impatient(*args: Any, connect_args: dict[str, Any], **more: Any) -> Any:
        return real(*args, connect_args={**connect_args, "command_timeout": 0.2}, **more)

    monkeypatch.setattr(pg, "create_async_engine", impatient)
    proxy = Proxy(postgres_url)
    store = open_store(Settings(database_url=f"{await proxy.start()}?schema=broken_{how}").database_for("session"))
    await store.prepare()
    items = inbound(CREATE, CANCEL)

    def work(connection: Connection) -> None:
        connection.execute(text("SELECT 1"))
        proxy.answering.clear()
        for item in items:
            try:
                with item.guard():
                    connection.execute(text("SELECT 1"))
            except (TimeoutError, PendingRollbackError) as error:
                last: Exception = error
        raise last

    broken = asyncio.create_task(getattr(store, how)(work))
    with pytest.raises(Retry):
        await broken
    assert [item.dead_letter for item in items] == [None, None], "no record is at fault"
    proxy.answering.set()
    for _ in range(3):
        assert await store.transact(lambda c: c.execute(text("SELECT 1")).scalar()) == 1
    await store.close()
    await proxy.close()


async def test_an_error_that_only_the_client_library_knows_is_a_retry(postgres_url: str) -> None:
    store = open_store(Settings(database_url=f"{postgres_url}?schema=broken_client").database_for("session"))
    await store.prepare()
    [item] = inbound(CREATE)

    def work(connection: Connection) -> None:
        connection.execute(text("SELECT 1"))
        with item.guard():
            raise asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress")

    with pytest.raises(Retry):
        await store.transact(work)
    assert item.dead_letter is None
    waiting = asyncio.create_task(
        store.transact(lambda c: c.execute(text("SELECT count(*) FROM generate_series(1, 1000000000)")))
    )
    await asyncio.wait([waiting], timeout=0.2)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert await store.transact(lambda c: c.execute(text("SELECT 1")).scalar()) == 1, "after a cancellation"
    await store.close()


async def test_a_value_that_the_client_refuses_is_the_records_fault(opened: Opener) -> None:
    store = await opened("session")
    processor, relay = processing(store)

    def handler(unit: Unit, batch: Sequence[Inbound]) -> None:
        for item in batch:
            at: Any = 2**70 if isinstance(item.message, CancelJob) else 1
            unit.connection.execute(text("SELECT count(*) FROM seen LIMIT CAST(:n AS bigint)"), {"n": at})

    await processor.process_batch(handler, inbound(CREATE, CANCEL), [], "g")
    assert [dict(row.headers)["ce_type"] for row in relay.sent] == [CANCEL.TYPE.encode()]
    assert not await store.transact(lambda c: mark_seen(c, [], 1.0))
