"""Replicas share an outbox: its rows leave in order, and none is passed over because its transaction took long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from sqlalchemy import text

from shared import shards
from shared.migrate import RUNTIME, upgrade
from shared.packing import insert_batches
from shared.postgres import PostgresStore
from shared.shards import SharedRelay
from shared.store import open_store
from shared.telemetry import Telemetry
from shared.unit import Outgoing

pytestmark = [pytest.mark.kafka]


class Noting(SharedRelay):
    """A replica that notes what it would send."""

    def __init__(self, sent: list[bytes]) -> None:
        super().__init__(None, Telemetry("t", "i"), 6)  # type: ignore[arg-type]
        self.sent = sent

    async def send(self, rows: Sequence[Outgoing]) -> None:
        self.sent += [row.value for row in rows]


@pytest.fixture
async def store(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PostgresStore]:
    monkeypatch.setattr(shards, "LOOK_EVERY_S", 0.0)
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
    """What the settler does with a batch that decides one record."""
    rows = [row(n)]
    written: Any = await store.transact(lambda c: relay.write(c, rows, 1.0))
    await relay.after(store, rows, written)


async def settled(relay: SharedRelay) -> int:
    return max(relay.low.values(), default=0)


async def test_what_is_sent_is_not_looked_at_again(store: PostgresStore) -> None:
    sent: list[bytes] = []
    relay = Noting(sent)
    for n in range(6):
        await emit(relay, store, n)
    assert sent == [b"%d" % n for n in range(6)] and await settled(relay) >= 3
    assert await store.read(lambda c: c.execute(text("SELECT count(*) FROM outbox_batch")).scalar()) == 0


async def test_a_transaction_that_takes_long_is_not_passed_over(store: PostgresStore) -> None:
    sent: list[bytes] = []
    relay, other = Noting(sent), Noting(sent)
    for n in range(3):
        await emit(relay, store, n)
    known = await settled(relay)
    shard = str(shards.key_hash(b"one-key") % 6)
    async with store.transaction() as slow:
        [number] = await slow.run_sync(lambda c: insert_batches(c, [shard], [row(100)], 1.0))
        for n in range(3, 9):
            await emit(relay, store, n)
        assert known <= await settled(relay) < number
    # Its replica is gone; the next one that decides something for the same key sends what it left first.
    await emit(relay, store, 9)
    assert sent[-2:] == [b"100", b"9"]
    for n in range(10, 14):
        await emit(relay, store, n)
    assert await settled(relay) > number
    # Somebody who comes new to the shard finds what lies there.
    await store.transact(lambda c: insert_batches(c, [shard], [row(200)], 1.0))
    await emit(other, store, 14)
    assert sent[-2:] == [b"200", b"14"]


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


async def test_rows_of_the_release_before_leave_in_their_turn(store: PostgresStore) -> None:
    """A replica of it runs beside us, or left them when it died: a row per record, numbered with our batches."""
    shard = str(shards.key_hash(b"one-key") % 6)
    before = text(
        "INSERT INTO outbox (shard, topic, key, value, headers, created_at) VALUES (:shard, :topic, 'one-key', :value, '[]', 1)"
    )
    sent: list[bytes] = []
    relay = Noting(sent)
    await emit(relay, store, 0)
    await store.transact(lambda c: insert_batches(c, [shard, shard], [row(1), row(2)], 1.0) and None)
    for value in (b"3", b"4"):
        await store.transact(lambda c, v=value: c.execute(before, {"shard": shard, "topic": "job.events", "value": v}) and None)  # type: ignore[misc]
    await store.transact(lambda c: insert_batches(c, [shard], [row(5)], 1.0) and None)
    await emit(relay, store, 6)
    assert sent == [b"%d" % n for n in range(7)]
    for table in ("outbox", "outbox_batch"):
        assert await store.read(lambda c, t=table: c.execute(text(f"SELECT count(*) FROM {t}")).scalar()) == 0  # type: ignore[misc]
    await store.transact(lambda c: c.execute(before, {"shard": shard, "topic": "stage.tasks.noop", "value": b"7"}) and None)
    await Noting(sent).before(store)
    assert sent[-1] == b"7", "one that comes new finds them too"
