"""A consumer on a real broker: nothing is missed where positions jump, partitions are paused and the consumer was full."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.protocol.fetch import FetchRequest

from shared.kafka import consumer as consumer_module
from shared.kafka.consumer import WaitingConsumer
from tests.eventually import eventually

pytestmark = pytest.mark.kafka
PARTITIONS = 30


async def topic_of(bootstrap: str) -> str:
    name = f"fetching-{uuid.uuid4().hex}"
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(name, PARTITIONS, 1)])
    await admin.close()
    return name


async def read(consumer: WaitingConsumer, count: int) -> list[tuple[int, int, bytes]]:
    found: list[tuple[int, int, bytes]] = []
    while len(found) < count:
        for tp, records in (await consumer.getmany()).items():
            found += [(tp.partition, r.offset, r.value) for r in records]
    return sorted(found)


@dataclass
class Bench:
    """A consumer of a topic of its own, and a producer to it."""

    topic: str
    producer: AIOKafkaProducer
    consumer: WaitingConsumer
    told: list[int]
    """Of each request: how many partitions were wanted."""

    async def send(self, value: bytes, partition: int) -> None:
        await self.producer.send_and_wait(self.topic, value, partition=partition)


@pytest.fixture
async def bench(kafka_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    topic = await topic_of(kafka_url)
    producer = AIOKafkaProducer(bootstrap_servers=kafka_url)
    consumer = WaitingConsumer(topic, bootstrap_servers=kafka_url, auto_offset_reset="earliest", fetch_max_wait_ms=200)
    await producer.start()
    await consumer.start()
    made = Bench(topic, producer, consumer, [])
    send = consumer._client.send

    async def watched(node_id: Any, request: Any, **options: Any) -> Any:
        response = await send(node_id, request, **options)
        if isinstance(request, FetchRequest):
            made.told.append(sum(len(ps) for _, ps in request.topics))
        return response

    monkeypatch.setattr(consumer._client, "send", watched)
    yield made
    await consumer.stop()
    await producer.stop()


async def test_positions_are_the_consumers(bench: Bench) -> None:
    consumer, topic = bench.consumer, bench.topic
    for n in range(3):
        for p in range(PARTITIONS):
            await bench.producer.send(topic, b"%d" % n, partition=p)
    await bench.producer.flush()
    everything = sorted((p, n, b"%d" % n) for p in range(PARTITIONS) for n in range(3))
    assert await read(consumer, 3 * PARTITIONS) == everything
    # A batch that is repeated: back to where it began, in some partitions.
    for p in (3, 17):
        consumer.seek(TopicPartition(topic, p), 1)
    assert await read(consumer, 4) == [(p, n, b"%d" % n) for p in (3, 17) for n in (1, 2)]
    consumer.pause(TopicPartition(topic, 5))
    await bench.send(b"paused", 5)
    await bench.send(b"other", 6)
    assert await read(consumer, 1) == [(6, 3, b"other")]
    consumer.resume(TopicPartition(topic, 5))
    assert await read(consumer, 1) == [(5, 3, b"paused")]


async def test_a_consumer_that_was_full_asks_for_every_partition_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_module, "HELD_LIMIT", 10)
    consumer = bench.consumer
    for _ in range(12):
        await bench.producer.send(bench.topic, b"held", partition=3)
    await bench.producer.flush()
    assert await consumer.getmany(max_records=1)
    await bench.send(b"not taken over", 4)

    async def long_not_taken_over() -> bool:
        results = [found for tp, found in consumer._fetcher._records.items() if tp.partition == 4]
        # aiokafka asks without this partition after 0.1 s.
        return bool(results) and time.monotonic() > results[0]._created + 0.3

    await eventually(long_not_taken_over, 10)
    assert len(await read(consumer, 12)) == 12
    await bench.send(b"after", 4)
    assert await read(consumer, 1) == [(4, 1, b"after")]
    assert set(bench.told) == {PARTITIONS}
