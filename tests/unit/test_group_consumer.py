"""Only a coordinator that knows the group's offsets can say that there are none: no error of it sets a group back to the beginning."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

import stageline_kit.group_consumer
from contracts.topics import JOB_EVENTS_TOPIC
from shared.kafka.clients import make_broker
from shared.kafka.connection import KafkaAccess
from shared.processing.processor import BatchProcessor
from shared.processing.subscription import Subscription
from shared.telemetry.tracing import Telemetry
from stageline_kit.assignment import sticky_assignors
from stageline_kit.consumer import Consumer
from stageline_kit.group_consumer import GroupConsumer
from stageline_kit.kafka_transport import KafkaTransport
from tests.unit.fake_coordinator import PARTITIONS, TOPIC, Answer, FakeCoordinator, committed

LOADING, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR = 14, 15, 16
EVERY = [TopicPartition(TOPIC, partition) for partition in range(PARTITIONS)]


def of_the_group(error: int) -> Answer:
    """As brokers answer since version 2: no partitions, and an error."""
    return [], error


def of_partition_1(error: int) -> Answer:
    """Partitions 0 and 2 have an offset."""
    return [(TOPIC, [(0, 7, "", 0), (1, -1, "", error), (2, 7, "", 0)])], 0


UNKNOWN_FOR_NOW = {
    "the coordinator still loads": of_the_group(LOADING),
    "the group has another coordinator": of_the_group(NOT_COORDINATOR),
    "there is no coordinator": of_the_group(COORDINATOR_NOT_AVAILABLE),
    "the coordinator fails": of_the_group(-1),
    "a transaction is open": of_partition_1(88),
    "a partition has no leader": of_partition_1(6),
    "a partition is unknown": of_partition_1(3),
    "a partition is not in the answer": ([(TOPIC, [(0, 7, "", 0), (2, 7, "", 0)])], 0),
    "nothing is in the answer": ([], 0),
}


def consumer(kind: Any, bootstrap: str) -> Any:
    return kind(
        TOPIC,
        bootstrap_servers=bootstrap,
        group_id="g",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        retry_backoff_ms=1,
    )


async def positions(member: Any) -> list[int]:
    return [await member.position(partition) for partition in EVERY]


@pytest.mark.parametrize("kind", [stageline_kit.group_consumer.GroupConsumer])
@pytest.mark.parametrize("answer", UNKNOWN_FOR_NOW.values(), ids=UNKNOWN_FOR_NOW.keys())
async def test_a_member_asks_again_until_the_coordinator_knows(kind: Any, answer: Answer) -> None:
    broker = FakeCoordinator(answer, answer, committed(7))
    async with broker.listening() as bootstrap:
        member = consumer(kind, bootstrap)
        await member.start()
        try:
            assert await positions(member) == [7] * PARTITIONS
            assert broker.resets == []
        finally:
            await member.stop()


async def test_what_a_program_asks_for_is_known_too() -> None:
    broker = FakeCoordinator(committed(7))
    async with broker.listening() as bootstrap:
        member = consumer(stageline_kit.group_consumer.GroupConsumer, bootstrap)
        await member.start()
        try:
            assert await positions(member) == [7] * PARTITIONS
            broker.offsets, found = [of_the_group(NOT_COORDINATOR), committed(9)], broker.lookups
            assert await member.committed(EVERY[0]) == 9
            assert broker.lookups == found + 1, "the group has moved: its coordinator is looked up"
        finally:
            await member.stop()


async def test_a_group_without_offsets_begins_at_the_beginning() -> None:
    broker = FakeCoordinator(committed(-1))
    async with broker.listening() as bootstrap:
        member = consumer(stageline_kit.group_consumer.GroupConsumer, bootstrap)
        await member.start()
        try:
            assert await positions(member) == [0] * PARTITIONS
            assert broker.resets
        finally:
            await member.stop()


@pytest.mark.parametrize("code", [29, 30])
async def test_a_missing_right_is_an_error_that_the_program_sees(code: int) -> None:
    broker = FakeCoordinator(of_the_group(code))
    async with broker.listening() as bootstrap:
        member = consumer(stageline_kit.group_consumer.GroupConsumer, bootstrap)
        await member.start()
        try:
            with pytest.raises(KafkaError, match="uthoriz"):
                await member.getmany(timeout_ms=10_000)
            assert broker.resets == []
        finally:
            await member.stop()


async def test_a_member_joins_with_one_request_that_names_its_strategies() -> None:
    coordinator = FakeCoordinator(committed(7))
    async with coordinator.listening() as bootstrap:
        member = GroupConsumer(TOPIC, bootstrap_servers=bootstrap, group_id="g", partition_assignment_strategy=sticky_assignors())
        await member.start()
        await member.stop()
    assert coordinator.joins == [["sticky", "roundrobin"]]


async def test_subscriptions_of_services_have_such_a_consumer() -> None:
    fake = FakeCoordinator(of_the_group(LOADING), committed(7))
    async with fake.listening() as bootstrap:
        broker = make_broker(KafkaAccess(bootstrap_servers=bootstrap), 1)
        processor = BatchProcessor("t", None, None, Telemetry("t", "i"))  # type: ignore[arg-type]
        subscription = Subscription(processor, [JOB_EVENTS_TOPIC], "g", lambda unit, batch: None, pattern=TOPIC)
        subscription.declare(broker)
        await broker.start()
        try:
            assert await positions(subscription.consumer) == [7] * PARTITIONS
        finally:
            await broker.stop()


async def test_the_consumers_of_the_kit_are_such() -> None:
    fake = FakeCoordinator(of_the_group(LOADING), committed(7))
    async with fake.listening() as bootstrap:
        async with Consumer(bootstrap, "g", [TOPIC]) as events:
            assert await positions(events._consumer) == [7] * PARTITIONS
        fake.offsets.insert(0, of_the_group(LOADING))
        transport = KafkaTransport(bootstrap, "/t")
        await transport.start("g", [TOPIC], None)  # type: ignore[arg-type]
        try:
            assert await positions(transport.consumer) == [7] * PARTITIONS
        finally:
            await transport.stop()
