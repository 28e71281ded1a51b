"""Reading from a real broker: nothing is missed where positions jump, partitions are paused and the queue was full."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.protocol.fetch import FetchRequest

from shared.kafka import record_reader
from shared.kafka.offset_commits import next_offsets
from shared.kafka.record_reader import RecordReader
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


@dataclass
class Reading:
    """A reader of `consumer` and what it has handled."""

    consumer: Any
    records: list[Any] = field(default_factory=list)
    free: asyncio.Event = field(default_factory=asyncio.Event)
    reader: RecordReader = field(init=False)

    def __post_init__(self) -> None:
        self.free.set()
        self.reader = RecordReader(lambda: self.consumer, self._handle, "test", max_records=1)

    async def _handle(self, records: Sequence[Any]) -> None:
        await self.free.wait()
        self.records += records

    async def next(self, count: int) -> list[tuple[int, int, bytes]]:
        """The next records, sorted by partition and offset, once they are `count`."""

        async def enough() -> bool:
            return len(self.records) >= count

        await eventually(enough, 20)
        found, self.records[:] = [(r.partition, r.offset, r.value) for r in self.records], []
        return sorted(found)


@contextlib.asynccontextmanager
async def reading(consumer: Any) -> AsyncIterator[Reading]:
    """Start the consumer and its reader; stop both in the end."""
    await consumer.start()
    made = Reading(consumer)
    running = asyncio.create_task(made.reader.run())
    try:
        yield made
    finally:
        await consumer.stop()
        await asyncio.wait_for(running, 5)


@dataclass
class Bench:
    """A topic of its own, its producer, and a reader of it."""

    topic: str
    producer: AIOKafkaProducer
    reading: Reading
    told: list[int]
    """Of each fetch request: how many partitions it names."""

    async def send(self, value: bytes, partition: int) -> None:
        await self.producer.send_and_wait(self.topic, value, partition=partition)

    def seek(self, partition: int, offset: int) -> None:
        place = TopicPartition(self.topic, partition)
        self.reading.consumer.seek(place, offset)
        self.reading.reader.drop([place])


@pytest.fixture
async def bench(kafka_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    topic = await topic_of(kafka_url)
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka_url, auto_offset_reset="earliest", fetch_max_wait_ms=200)
    told: list[int] = []
    send = consumer._client.send

    async def watched(node_id: Any, request: Any, **options: Any) -> Any:
        if isinstance(request, FetchRequest):
            told.append(sum(len(partitions) for _, partitions in request.topics))
        return await send(node_id, request, **options)

    monkeypatch.setattr(consumer._client, "send", watched)
    async with AIOKafkaProducer(bootstrap_servers=kafka_url) as producer, reading(consumer) as made:
        yield Bench(topic, producer, made, told)


async def test_positions_are_the_consumers(bench: Bench) -> None:
    consumer, topic, read = bench.reading.consumer, bench.topic, bench.reading.next
    for n in range(3):
        for p in range(PARTITIONS):
            await bench.producer.send(topic, b"%d" % n, partition=p)
    await bench.producer.flush()
    everything = sorted((p, n, b"%d" % n) for p in range(PARTITIONS) for n in range(3))
    assert await read(3 * PARTITIONS) == everything
    # A batch that is repeated: back to where it began, in some partitions.
    for p in (3, 17):
        bench.seek(p, 1)
    assert await read(4) == [(p, n, b"%d" % n) for p in (3, 17) for n in (1, 2)]
    consumer.pause(TopicPartition(topic, 5))
    await bench.send(b"paused", 5)
    await bench.send(b"other", 6)
    assert await read(1) == [(6, 3, b"other")]
    consumer.resume(TopicPartition(topic, 5))
    assert await read(1) == [(5, 3, b"paused")]


async def test_a_queue_that_was_full_is_read_on_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_reader, "QUEUE_RECORDS", 10)
    reading, consumer = bench.reading, bench.reading.consumer
    reading.free.clear()
    for _ in range(12):
        await bench.producer.send(bench.topic, b"held", partition=3)
    await bench.producer.flush()
    for n in range(12):
        await bench.send(b"%d" % n, 4)

    async def full() -> bool:
        return len(consumer.paused()) == PARTITIONS

    await eventually(full, 10)
    await bench.send(b"after", 3)
    reading.free.set()
    assert len(await reading.next(25)) == 25
    await bench.send(b"later", 4)
    started = time.monotonic()
    assert await reading.next(1) == [(4, 12, b"later")]
    assert time.monotonic() - started < 5 and set(bench.told) == {PARTITIONS}, "every fetch asks for all partitions"


async def test_a_full_queue_that_is_repeated_is_read_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_reader, "QUEUE_RECORDS", 10)
    reading, consumer = bench.reading, bench.reading.consumer
    reading.free.clear()
    for _ in range(25):
        await bench.producer.send(bench.topic, b"held", partition=3)
    await bench.producer.flush()

    async def full() -> bool:
        return len(consumer.paused()) == PARTITIONS

    await eventually(full, 10)
    bench.seek(3, 0)
    reading.free.set()

    async def all_again() -> bool:
        return [r.offset for r in reading.records][-25:] == list(range(25))

    await eventually(all_again, 20)


class Member(ConsumerRebalanceListener):  # type: ignore[misc]
    """A member of a group with a full queue most of the time. It forgets what is queued of revoked partitions, and commits what it handled."""

    def __init__(self, bootstrap: str, topic: str, group: str, handled: set[tuple[int, int]]) -> None:
        self.consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False, auto_offset_reset="earliest", max_partition_fetch_bytes=2000,
            session_timeout_ms=6000, heartbeat_interval_ms=200,
        )  # fmt: skip
        self.consumer.subscribe([topic], listener=self)
        self.handled, self.mine = handled, 0
        self.reader = RecordReader(lambda: self.consumer, self._handle, group, max_records=7)

    async def on_partitions_revoked(self, revoked: Any) -> None:
        self.reader.drop(revoked)

    async def on_partitions_assigned(self, assigned: Any) -> None: ...

    async def _handle(self, records: Sequence[Any]) -> None:
        self.handled |= {(r.partition, r.offset) for r in records}
        self.mine += len(records)
        mine = {tp: o for tp, o in next_offsets(records).items() if tp in self.consumer.assignment()}
        with contextlib.suppress(KafkaError, IllegalStateError):
            await self.consumer.commit(mine)


async def test_a_member_that_joins_in_a_deep_backlog_stops_nobody(kafka_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_reader, "QUEUE_RECORDS", 60)
    topic, handled = await topic_of(kafka_url), set[tuple[int, int]]()
    producer = AIOKafkaProducer(bootstrap_servers=kafka_url)
    await producer.start()
    for n in range(9000):
        await producer.send(topic, b"x" * 100, partition=n % PARTITIONS)
    await producer.stop()
    async with contextlib.AsyncExitStack() as stack:
        members: list[Member] = []

        async def join() -> Member:
            member = Member(kafka_url, topic, f"g-{topic}", handled)
            await member.consumer.start()
            running = asyncio.create_task(member.reader.run())
            stack.push_async_callback(asyncio.wait_for, running, 10)
            stack.push_async_callback(member.consumer.stop)
            members.append(member)
            return member

        async def under_way() -> bool:
            return all(member.mine > 200 for member in members)

        for _ in range(3):
            await join()
            await eventually(under_way, 30)
        assert len(handled) < 9000, "the backlog was deep enough"

        async def all_handled() -> bool:
            return len(handled) == 9000

        await eventually(all_handled, 60)
