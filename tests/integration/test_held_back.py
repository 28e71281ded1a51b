"""Records that Kafka refuses for their own sake hold back what comes after them alone, and leave once Kafka takes them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from sqlalchemy import text

from shared.database.migrate import RUNTIME, upgrade
from shared.database.open import open_store
from shared.database.store import Store
from shared.errors import Stop
from shared.kafka.clients import make_producer
from shared.kafka.connection import KafkaAccess
from shared.kafka.outgoing import Outgoing
from shared.kafka.refusals import Unsendable
from shared.processing.outbox import Relay
from shared.processing.outbox_shared import SharedRelay
from shared.processing.processor import BatchProcessor
from shared.processing.unit_of_work import Unit
from shared.runtime.health import Health
from shared.runtime.outbox_upkeep import HELD_BACK, OutboxUpkeep
from shared.telemetry.tracing import Telemetry
from tests.e2e.outside import read_from
from tests.eventually import eventually
from tests.integration.test_fetching import topic_of

pytestmark = pytest.mark.kafka
TELEMETRY = Telemetry("t", "i")


@dataclass
class Outbox:
    """One process that publishes through an outbox."""

    access: KafkaAccess
    admin: AIOKafkaAdminClient
    producer: AIOKafkaProducer
    store: Store
    processor: BatchProcessor
    upkeep: OutboxUpkeep
    made: list[str]

    @property
    def relay(self) -> Relay:
        return self.processor.relay

    async def emit(self, *rows: tuple[str, bytes, bytes]) -> float:
        """Publish records (topic, key, value) as the output of one transaction; the seconds that it took."""
        began = time.monotonic()

        def work(unit: Unit) -> None:
            unit.outgoing += [Outgoing(topic, key, value, ()) for topic, key, value in rows]

        await self.processor.run_unit(work)
        return time.monotonic() - began

    async def values(self, topic: str) -> list[bytes]:
        return [record.value for record in await read_from(self.access, topic)]

    async def make(self, topic: str) -> None:
        await self.admin.create_topics([NewTopic(topic, 1, 1)])

    async def gone(self, topic: str) -> bool:
        return topic not in await self.admin.list_topics()

    async def waiting(self) -> int:
        return int(await self.store.read(lambda c: c.execute(text("SELECT count(*) FROM outbox_held")).scalar_one()))


@pytest.fixture(params=["sqlite", "postgresql"])
async def outbox(kafka_url: str, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Outbox]:
    access = KafkaAccess(bootstrap_servers=kafka_url)
    admin, producer = AIOKafkaAdminClient(**access.options), await make_producer(access, "held-back")
    await admin.start()
    url = f"sqlite:///{tmp_path}/t.db"
    if request.param == "postgresql":
        server = request.getfixturevalue("postgres_url").replace("postgresql://", "postgresql+asyncpg://")
        url = f"{server}?schema=held_{request.node.name.partition('[')[0]}"[:200]
    store = open_store(url)
    await store.prepare()
    await store.transact(lambda c: upgrade(c, {"runtime_revision": RUNTIME}))
    relay = SharedRelay(producer, TELEMETRY, 6) if store.shared else Relay(producer, TELEMETRY, "t")
    processor = BatchProcessor("t", store, relay, TELEMETRY)
    made: list[str] = []

    async def make_topics(names: Any) -> None:
        made.extend(names)
        for name in sorted(names):
            await admin.create_topics([NewTopic(name, 1, 1)])

    yield Outbox(access, admin, producer, store, processor, OutboxUpkeep(processor, Health(), make_topics), made)
    await producer.stop()
    await admin.close()
    await store.close()


async def test_a_missing_topic_holds_back_its_own_records_alone(outbox: Outbox, kafka_url: str) -> None:
    good = await topic_of(kafka_url)
    missing = f"{good}.missing"
    first = await outbox.emit((missing, b"k", b"1"), (good, b"k", b"1"))
    again = await outbox.emit((missing, b"k", b"2"), (good, b"k", b"2"), (missing, b"other", b"3"))
    assert first < 15 and again < 1, f"others waited {first:.1f} s, then {again:.1f} s"
    assert await outbox.values(good) == [b"1", b"2"] and outbox.relay.broken is None
    assert outbox.relay.held.reason(missing) == f"the topic {missing} does not exist"
    # It is made again, and has everything in order.
    await eventually(lambda: released(outbox, missing), 20)
    assert outbox.made == [missing] and await outbox.values(missing) == [b"1", b"2", b"3"]
    await outbox.emit((missing, b"k", b"4"))
    assert await outbox.values(missing) == [b"1", b"2", b"3", b"4"]
    assert await outbox.waiting() == 0 and outbox.relay.held.reason(missing) is None


async def test_a_topic_that_is_deleted_while_it_is_used_is_recognised(outbox: Outbox, kafka_url: str) -> None:
    good, late = await topic_of(kafka_url), f"{await topic_of(kafka_url)}.late"
    await outbox.make(late)
    await outbox.emit((late, b"k", b"0"))
    await outbox.admin.delete_topics([late])
    await eventually(lambda: outbox.gone(late), 20)
    waited = await outbox.emit((late, b"k", b"1"), (good, b"k", b"1"))
    again = await outbox.emit((good, b"k", b"2"), (late, b"k", b"2"))
    assert waited < 20 and again < 1, f"others waited {waited:.1f} s, then {again:.1f} s"
    assert await outbox.values(good) == [b"1", b"2"]
    await eventually(lambda: released(outbox, late), 20)
    assert outbox.made == [late] and await outbox.values(late) == [b"1", b"2"] and await outbox.waiting() == 0
    # The producer goes on with the new topic.
    await outbox.emit((late, b"k", b"3"), (good, b"k", b"3"))
    assert (await outbox.values(late))[-1] == b"3" and (await outbox.values(good))[-1] == b"3"
    assert outbox.relay.broken is None


async def test_a_record_that_is_too_large_holds_back_its_own_key_alone(outbox: Outbox, kafka_url: str) -> None:
    topic = f"{await topic_of(kafka_url)}.small"
    await outbox.make(topic)
    await limit(outbox, topic, 2000)
    large = b"x" * 5000
    await outbox.emit((topic, b"a", b"1"))
    await outbox.emit((topic, b"a", large))
    for n in (2, 3):  # behind it, and beside it: the producer's numbers have no gap
        await outbox.emit((topic, b"a", b"%d" % n), (topic, b"b", b"%d" % n))
    assert await outbox.values(topic) == [b"1", b"2", b"3"] and outbox.relay.broken is None
    await outbox.upkeep.tidy()
    assert outbox.upkeep.health.details[HELD_BACK][topic]["code"] == "too_large" and await outbox.waiting() == 3
    assert await outbox.upkeep.health.ready() == {"lifecycle": "starting"}, "it makes nothing unhealthy"
    await limit(outbox, topic, 100_000)
    await eventually(lambda: released(outbox, topic), 20)
    assert await outbox.values(topic) == [b"1", b"2", b"3", large, b"2", b"3"] and HELD_BACK not in outbox.upkeep.health.details
    # Above our own limit: the process goes on, where it ended before.
    await outbox.emit((topic, b"c", b"x" * 1_100_000), (topic, b"b", b"4"))
    assert (await outbox.values(topic))[-1] == b"4" and await outbox.waiting() == 1


async def released(outbox: Outbox, topic: str) -> bool:
    await outbox.upkeep.tidy()
    return outbox.relay.held.reason(topic) is None


async def limit(outbox: Outbox, topic: str, most: int) -> None:
    await outbox.admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": str(most)})])


async def test_a_new_process_knows_what_is_held_back(outbox: Outbox, kafka_url: str) -> None:
    missing = f"{await topic_of(kafka_url)}.missing"
    await outbox.emit((missing, b"k", b"1"))
    await outbox.processor.flush_outbox()
    relay = SharedRelay(outbox.producer, TELEMETRY, 6) if outbox.store.shared else Relay(outbox.producer, TELEMETRY, "t")
    outbox.processor.relay = relay
    assert await outbox.emit((missing, b"k", b"2")) < 1, "it does not look for the topic again"
    await eventually(lambda: released(outbox, missing), 20)
    assert await outbox.values(missing) == [b"1", b"2"]


async def test_a_record_without_a_table_is_refused_with_the_reason(outbox: Outbox, kafka_url: str) -> None:
    good = await topic_of(kafka_url)
    with pytest.raises(Unsendable, match="does not exist") as refused:
        await outbox.relay.send_records([Outgoing(f"{good}.missing", b"k", b"1", ()), Outgoing(good, b"k", b"2", ())])
    assert refused.value.code == "missing_topic" and not isinstance(refused.value, Stop)
    assert await outbox.values(good) == [b"2"]
