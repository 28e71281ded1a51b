"""Replicas share an outbox: its rows leave in order, and none is passed over because its transaction took long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from sqlalchemy import Connection, text

from shared.database.migrate import RUNTIME, upgrade
from shared.database.open import open_store
from shared.database.postgres import PostgresStore
from shared.errors import Retry
from shared.kafka.outgoing import Outgoing
from shared.processing import outbox_shared
from shared.processing.outbox_codec import INSERT_SHARDS, shard_values
from shared.processing.outbox_shared import SharedRelay
from shared.telemetry.tracing import Telemetry

pytestmark = [pytest.mark.kafka]


class Noting(SharedRelay):
    """A replica that notes what it would send."""

    def __init__(self, sent: list[bytes]) -> None:
        super().__init__(None, Telemetry("t", "i"), 6)  # type: ignore[arg-type]
        self.sent = sent

    async def send_records(self, rows: Sequence[Outgoing]) -> None:
        self.sent += [row.value for row in rows]


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[PostgresStore]:
    url = postgres_url.replace("postgresql://", "postgresql+asyncpg://") + "?schema=shared_outbox"
    made = open_store(url)
    assert isinstance(made, PostgresStore)
    await made.prepare()
    await made.transact(lambda c: upgrade(c, {"runtime_revision": RUNTIME}))
    yield made
    await made.transact(lambda c: c.execute(text("DROP SCHEMA shared_outbox CASCADE")))
    await made.close()


def row(n: int) -> Outgoing:
    return Outgoing("job.events", b"one-key", b"%d" % n, ())


async def emit(relay: SharedRelay, store: PostgresStore, n: int) -> None:
    """Write and publish one record, as the batch processor does."""
    rows = [row(n)]
    written: Any = await relay.transact(store, lambda c: relay.write_rows(c, rows, 1.0))
    await relay.publish_rows(store, rows, written)


def left(connection: Connection, *numbers: int) -> list[int]:
    """Rows of one who died before it could send them."""
    shard = str(outbox_shared.key_hash(b"one-key") % 6)
    rows = {shard: [row(n) for n in numbers]}
    return [r.id for r in connection.execute(text(INSERT_SHARDS), shard_values(rows, 1.0))]


async def test_what_is_sent_is_gone_and_not_looked_at_again(store: PostgresStore) -> None:
    sent: list[bytes] = []
    relay = Noting(sent)
    for n in range(6):
        await emit(relay, store, n)
    assert sent == [b"%d" % n for n in range(6)] and max(relay.low.values()) == 6
    assert await store.read(lambda c: c.execute(text("SELECT count(*) FROM outbox_batch")).scalar()) == 0


async def test_nobody_comes_between_what_is_decided_and_its_sending(store: PostgresStore) -> None:
    sent: list[bytes] = []
    slow, other = Noting(sent), Noting(sent)
    rows = [row(1)]
    written: Any = await slow.transact(store, lambda c: slow.write_rows(c, rows, 1.0))
    later = asyncio.create_task(emit(other, store, 2))
    done, _ = await asyncio.wait([later], timeout=0.3)
    assert not done and not sent
    await slow.publish_rows(store, rows, written)
    await later
    assert sent == [b"1", b"2"]


async def test_what_one_left_that_fell_silent_goes_first(store: PostgresStore) -> None:
    """It has committed and does not send: stopped, or cut off. Its session ends, its rows stay, and it does no harm when it comes back."""
    sent: list[bytes] = []
    silent, other = Noting(sent), Noting(sent)
    for n in range(3):
        await emit(other, store, n)
    rows = [row(100)]
    written: Any = await silent.transact(store, lambda c: silent.write_rows(c, rows, 1.0))
    started = time.monotonic()
    await emit(other, store, 3)
    assert time.monotonic() - started < 15, "long before it gives up waiting for the lock"
    assert sent == [b"0", b"1", b"2", b"100", b"3"]
    with pytest.raises(Retry):
        await silent.publish_rows(store, rows, written)
    assert silent.left_behind
    await emit(other, store, 4)
    await silent.publish_left_behind(store)
    await emit(silent, store, 5)
    assert sent == [b"0", b"1", b"2", b"100", b"3", b"4", b"5"]


async def test_what_failed_in_the_transaction_holds_nobody_up(store: PostgresStore) -> None:
    sent: list[bytes] = []
    relay = Noting(sent)

    def fails(connection: Connection) -> None:
        relay.write_rows(connection, [row(1)], 1.0)
        raise ValueError("after the lock")

    with pytest.raises(ValueError):
        await relay.transact(store, fails)
    await asyncio.wait_for(emit(Noting(sent), store, 2), 2)
    assert sent == [b"2"]


async def test_many_batches_that_somebody_left_go_page_by_page(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_shared, "PAGE", 2)
    sent: list[bytes] = []
    for n in range(7):
        await store.transact(lambda c, n=n: left(c, n))  # type: ignore[misc]
    await emit(Noting(sent), store, 7)
    assert sent == [b"%d" % n for n in range(8)]


async def test_many_at_once_lose_and_double_nothing(store: PostgresStore) -> None:
    sent: list[bytes] = []
    relays = [Noting(sent) for _ in range(3)]

    async def busy(relay: SharedRelay, first: int) -> None:
        for n in range(first, first + 40):
            await emit(relay, store, n)

    await asyncio.gather(*(busy(relay, 1000 * k) for k, relay in enumerate(relays)))
    assert sorted(map(int, sent)) == [1000 * k + n for k in range(3) for n in range(40)]
    for k in range(3):
        own = [int(v) for v in sent if int(v) // 1000 == k]
        assert own == sorted(own), "a replica's own decisions for a key leave in their order"


async def test_rows_that_another_replica_left_leave_in_their_turn(store: PostgresStore) -> None:
    """A replica that dies leaves committed rows: the next one sends them before its own, and so does a new one."""
    sent: list[bytes] = []
    relay = Noting(sent)
    await emit(relay, store, 0)
    await store.transact(lambda c: left(c, 1, 2))
    await store.transact(lambda c: left(c, 3))
    await emit(relay, store, 4)
    assert sent == [b"%d" % n for n in range(5)]
    assert await store.read(lambda c: c.execute(text("SELECT count(*) FROM outbox_batch")).scalar()) == 0
    await store.transact(lambda c: left(c, 5))
    await Noting(sent).publish_left_behind(store)
    assert sent[-1] == b"5", "a replica that starts sends them too"
