"""A record that a database cannot store becomes a dead letter alone. The rest of its batch is processed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from sqlalchemy import text

from contracts.topics import JOB_COMMANDS_TOPIC
from shared.database.migrate import RUNTIME, upgrade
from shared.database.open import open_store
from shared.errors import DeadLetter
from shared.processing.processor import BatchProcessor
from shared.processing.records import Inbound
from shared.processing.subscription import Subscription
from shared.processing.unit_of_work import Unit
from tests.unit.fake_relay import CREATE, NotingRelay, record

pytestmark = [pytest.mark.kafka]
INSERT = text("INSERT INTO poison (id, small, words) VALUES (:id, :small, CAST(:words AS jsonb))")


@pytest.fixture
async def processor(postgres_url: str) -> AsyncIterator[BatchProcessor]:
    url = postgres_url.replace("postgresql://", "postgresql+asyncpg://") + "?schema=poison"
    store, relay = open_store(url), NotingRelay()
    await store.prepare()

    def tables(connection: Any) -> None:
        upgrade(connection, {"runtime_revision": RUNTIME})
        connection.execute(text("CREATE TABLE poison (id text PRIMARY KEY, small int NOT NULL CHECK (small <> 13), words jsonb)"))

    await store.transact(tables)
    yield BatchProcessor("t", store, relay, relay.telemetry)
    await store.transact(lambda c: c.execute(text("DROP SCHEMA poison CASCADE")))
    await store.close()


@pytest.mark.parametrize(
    ("small", "words", "code"),
    [(2**40, "1", "invalid_value"), (None, "1", "invalid_value"), (13, "1", "invalid_value"), (1, '"\\u0000"', "invalid_text"),
     (1, "{", "invalid_value")],
    ids=["out of range", "missing", "against a rule", "nul", "no JSON"],
)  # fmt: skip
async def test_a_record_that_the_database_cannot_store_is_dead_lettered_alone(
    processor: BatchProcessor, small: Any, words: str, code: str
) -> None:
    def handler(unit: Unit, batch: Sequence[Inbound]) -> None:
        for item in batch:
            with item.guard():
                bad = item.offset == 5
                row = {"id": item.message.message_id, "small": small if bad else item.offset, "words": words if bad else "1"}
                unit.connection.execute(INSERT, row)
                unit.emit("job.events", item.message, None)

    subscription = Subscription(processor, [JOB_COMMANDS_TOPIC], "g", handler)
    records = [record(CREATE.model_copy(update={"command_id": f"{n:08d}"}), n) for n in range(8)]
    await subscription.on_batch(records)
    await subscription.gate.settled()
    kept = await processor.store.read(lambda c: c.execute(text("SELECT small FROM poison ORDER BY small")).scalars().all())
    assert kept == [0, 1, 2, 3, 4, 6, 7]
    relay: Any = processor.relay
    letters = [dict(row.headers) for row in relay.sent if row.topic.endswith(".dlq")]
    assert [(letter["dlq-original-offset"], letter["dlq-code"]) for letter in letters] == [(b"5", code.encode())]
    assert len([row for row in relay.sent if row.topic == "job.events"]) == 7


async def test_a_request_that_the_database_cannot_store_is_refused(processor: BatchProcessor) -> None:
    with pytest.raises(DeadLetter, match="out of int32 range"):
        await processor.run_unit(lambda unit: unit.connection.execute(INSERT, {"id": "x", "small": 2**40, "words": "1"}))
    assert await processor.run_unit(lambda unit: 5) == 5
