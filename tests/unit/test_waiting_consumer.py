"""How records are taken over from aiokafka and handed out, and when the broker is asked for more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from shared.kafka import consumer as consumer_module
from shared.kafka.consumer import WaitingConsumer

EVENTS, ANSWERS = TopicPartition("job.events", 0), TopicPartition("job.answers", 0)


class Sent(NamedTuple):
    """What counts of a record here."""

    value: bytes | None


A, B = Sent(b"a"), Sent(None)


class Broker:
    """Answers a fetch with what has arrived since the one before."""

    def __init__(self) -> None:
        self.arrived: asyncio.Queue[dict[TopicPartition, list[Sent]] | KafkaError] = asyncio.Queue()
        self.left = False

    async def getmany(self, consumer: Any, timeout_ms: float = 0) -> dict[TopicPartition, list[Sent]]:
        found = await self.arrived.get()
        if isinstance(found, KafkaError):
            raise found
        return found


@pytest.fixture
async def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    made = Broker()
    monkeypatch.setattr(AIOKafkaConsumer, "getmany", lambda self, **options: made.getmany(self, **options))
    return made


@pytest.fixture
async def consumer(monkeypatch: pytest.MonkeyPatch, broker: Broker) -> AsyncIterator[WaitingConsumer]:
    async def stop(self: Any) -> None:
        broker.left = True

    monkeypatch.setattr(AIOKafkaConsumer, "stop", stop)
    made = WaitingConsumer.__new__(WaitingConsumer)
    made._closed = True  # aiokafka's: nothing is to be cleaned up
    yield made
    await made.stop()


async def test_what_arrives_is_handed_out_at_once(consumer: WaitingConsumer, broker: Broker) -> None:
    broker.arrived.put_nowait({ANSWERS: [A], EVENTS: [B]})
    assert await asyncio.wait_for(consumer.getmany(), 5) == {ANSWERS: [A], EVENTS: [B]}


async def test_who_waits_is_told_what_ended_the_taking_over(consumer: WaitingConsumer, broker: Broker) -> None:
    taken = asyncio.create_task(consumer.getmany())
    broker.arrived.put_nowait(KafkaError("gone"))
    with pytest.raises(KafkaError, match="gone"):
        await asyncio.wait_for(taken, 5)
    broker.arrived.put_nowait({EVENTS: [A]})
    assert await asyncio.wait_for(consumer.getmany(), 5) == {EVENTS: [A]}, "and may go on"


@pytest.mark.parametrize(
    ("size", "rests"), [(0, False), (1, True), (consumer_module.SMALL_BYTES - 1, True), (consumer_module.SMALL_BYTES, False)]
)
async def test_a_few_records_that_nobody_waits_for_are_followed_by_rest(
    consumer: WaitingConsumer, size: int, rests: bool
) -> None:
    assert consumer._rest(size) == 0.0, "not where somebody waits"
    consumer.rest_s = 30.0
    assert consumer._rest(size) == (30.0 if rests else 0.0)


async def test_many_records_are_handed_out_in_parts(consumer: WaitingConsumer, broker: Broker) -> None:
    records = [Sent(b"%d" % n) for n in range(1000)]
    broker.arrived.put_nowait({EVENTS: records})
    assert await asyncio.wait_for(consumer.getmany(max_records=800), 5) == {EVENTS: records[:800]}
    assert await asyncio.wait_for(consumer.getmany(max_records=800), 5) == {EVENTS: records[800:]}


async def test_large_records_make_small_batches(consumer: WaitingConsumer, broker: Broker) -> None:
    small, large = [A] * 1000, [Sent(b"x" * (consumer_module.BATCH_BYTES // 3 + 1))] * 4
    broker.arrived.put_nowait({EVENTS: small + large, ANSWERS: [B]})
    assert await asyncio.wait_for(consumer.getmany(), 5) == {EVENTS: small + large[:3]}
    assert await asyncio.wait_for(consumer.getmany(), 5) == {ANSWERS: [B], EVENTS: large[3:]}, "the other partition has its turn"
    huge = [Sent(b"x" * (consumer_module.BATCH_BYTES + 1))] * 2
    broker.arrived.put_nowait({ANSWERS: huge})
    assert await asyncio.wait_for(consumer.getmany(), 5) == {ANSWERS: huge[:1]}, "one at least"


async def test_the_group_is_left_after_what_is_finished_is_said(consumer: WaitingConsumer, broker: Broker) -> None:
    left_before: list[bool] = []

    async def before_leave() -> None:
        left_before.append(broker.left)

    consumer.before_leave = before_leave
    await consumer.stop()
    assert left_before == [False] and broker.left
    consumer.before_leave = None
