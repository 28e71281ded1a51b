"""Publishing overlaps the next batch, keeps the order of units, and precedes the offset commit."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from aiokafka import TopicPartition
from sqlalchemy import text

from contracts import AccessKeyIssued
from contracts.sealing import CONTENT_TYPE, SEAL_HEADER
from contracts.topics import ACCESS_EVENTS_TOPIC, JOB_COMMANDS_TOPIC
from shared import clock
from shared.errors import Retry
from shared.kafka.offset_commits import OffsetCommits
from shared.processing import subscription as consume
from shared.processing.processor import BatchProcessor
from shared.processing.records import Inbound
from shared.processing.subscription import Subscription
from shared.processing.unit_of_work import Unit
from shared.telemetry.tracing import Telemetry
from shared.web.api_keys import ACCESS, EXPIRED_KEPT_S, apply_access, enter_key
from tests.contracts.examples import OTHERS
from tests.eventually import eventually
from tests.unit.fake_relay import CANCEL, CREATE, inbound, record

PLACE = TopicPartition(JOB_COMMANDS_TOPIC.name, 0)


class NotingConsumer:
    """A consumer of one partition that records commits and seeks."""

    def __init__(self) -> None:
        self.committed: list[int] = []
        self.sought: list[int] = []

    def assignment(self) -> set[TopicPartition]:
        return {PLACE}

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        self.committed.append(offsets[PLACE])

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.sought.append(offset)


def instant(unix_s: float) -> datetime:
    return datetime.fromtimestamp(unix_s, UTC)


def echo(unit: Unit, batch: Sequence[Inbound]) -> None:
    for item in batch:
        unit.emit("job.events", item.message, None)


def sent(processor: BatchProcessor) -> list[str]:
    relay: Any = processor.relay
    return [dict(row.headers)["ce_type"].decode().split(".")[-2] for row in relay.sent]


async def decided(processor: BatchProcessor) -> int:
    return int(await processor.store.read(lambda c: c.execute(text("SELECT count(*) FROM seen")).scalar()) or 0)


@pytest.fixture
def subscription(processor: BatchProcessor, monkeypatch: pytest.MonkeyPatch) -> Subscription:
    monkeypatch.setattr(consume, "backoff", lambda failures: 0.005)
    made = Subscription(processor, [JOB_COMMANDS_TOPIC], "g", echo)
    consumer = NotingConsumer()
    monkeypatch.setattr(Subscription, "consumer", property(lambda self: consumer))
    return made


async def test_one_further_unit_is_committed_while_one_is_published(processor: BatchProcessor) -> None:
    relay: Any = processor.relay
    await processor.run_unit(lambda unit: None)
    relay.slow.clear()
    first = await processor.decide_batch(echo, inbound(CREATE), [], "g")
    second = asyncio.create_task(processor.process_batch(echo, inbound(CANCEL), [], "g"))

    async def both_durable() -> bool:
        return await decided(processor) == 2

    await eventually(both_durable, 5)
    third = asyncio.create_task(processor.run_unit(lambda unit: unit.emit("job.events", CREATE, None)))
    done, _ = await asyncio.wait([third], timeout=0.2)
    rows = await processor.store.read(lambda c: c.execute(text("SELECT count(*) FROM outbox_batch")).scalar())
    assert not done and rows == 2 and not relay.sent, "a third waits for the first to be published"
    relay.slow.set()
    await asyncio.gather(first, second, third)
    assert sent(processor) == ["create_command", "cancel_command", "create_command"]
    await processor.flush_outbox()
    assert await processor.store.read(lambda c: c.execute(text("SELECT count(*) FROM outbox_batch")).scalar()) == 0


async def test_a_failed_publish_that_nobody_waits_for_is_no_line_of_the_log(processor: BatchProcessor) -> None:
    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context["message"]))
    relay: Any = processor.relay
    await processor.run_unit(lambda unit: None)
    relay.down = True
    _, published = await processor._start(lambda unit: unit.emit("job.events", CANCEL, None))
    await asyncio.wait({published})
    del published
    gc.collect()
    assert complaints == [] and relay.left_behind


async def test_no_later_unit_overtakes_a_failed_publish(processor: BatchProcessor) -> None:
    relay: Any = processor.relay
    await processor.run_unit(lambda unit: None)
    relay.slow.clear()
    relay.down = True
    first = await processor.decide_batch(echo, inbound(CREATE), [], "g")
    second = asyncio.create_task(processor.process_batch(echo, inbound(CANCEL), [], "g"))

    async def both_durable() -> bool:
        return await decided(processor) == 2

    await eventually(both_durable, 5)

    async def back() -> None:
        with pytest.raises(Retry):
            await first
        relay.down = False

    recovery = asyncio.create_task(back())
    relay.slow.set()
    await recovery
    with pytest.raises(Retry):
        await second
    assert not relay.sent, "the second was decided later, and Kafka does not have the first"
    await processor.run_unit(lambda unit: None)
    assert sent(processor) == ["create_command", "cancel_command"]


async def test_a_cancelled_caller_does_not_stop_publishing(processor: BatchProcessor) -> None:
    relay: Any = processor.relay
    await processor.run_unit(lambda unit: None)
    inside, go_on = threading.Event(), threading.Event()

    def slow(unit: Unit) -> None:
        inside.set()
        go_on.wait(5)
        unit.emit("job.events", CREATE, None)

    request = asyncio.create_task(processor.run_unit(slow))
    await asyncio.to_thread(inside.wait, 5)
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    go_on.set()
    # The next batch deletes the published rows, and must keep the other batch's row.
    await processor.run_unit(lambda unit: unit.emit("job.events", CANCEL, None))
    await processor.run_unit(lambda unit: None)
    assert sent(processor) == ["create_command", "cancel_command"] and not relay.left_behind


async def test_an_offset_is_committed_only_after_its_outputs_are_published(
    processor: BatchProcessor, subscription: Subscription
) -> None:
    relay: Any = processor.relay
    consumer: Any = subscription.consumer
    await processor.run_unit(lambda unit: None)
    relay.slow.clear()
    await subscription.on_batch([record(CREATE, 4)])
    assert await decided(processor) == 1 and subscription.gate.idle.is_set()
    settled = asyncio.create_task(subscription.stop())
    done, _ = await asyncio.wait([settled], timeout=0.3)
    assert not done and not consumer.committed, "leaving the group waits for records in flight"
    relay.slow.set()
    await settled
    assert consumer.committed == [5] and sent(processor) == ["create_command"]


async def test_a_failed_publish_is_retried_without_another_batch(
    processor: BatchProcessor, subscription: Subscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay: Any = processor.relay
    consumer: Any = subscription.consumer
    await processor.run_unit(lambda unit: None)
    relay.down = True
    await subscription.on_batch([record(CREATE, 4)])

    async def failed() -> int:
        return subscription.failures

    await eventually(failed, 5)
    assert subscription.reader.may_wait(), "it waits for Kafka, and is not stuck"
    monkeypatch.setattr(consume, "OUTAGE_S", 0.0)
    assert not subscription.reader.may_wait(), "the last failure is long ago"
    relay.down = False
    await subscription.stop()
    assert consumer.committed == [5] and sent(processor) == ["create_command"] and subscription.failures == 0
    assert not consumer.sought, "it is not decided again"


async def test_records_not_started_before_a_rebalance_are_left_to_the_new_owner(
    processor: BatchProcessor, subscription: Subscription
) -> None:
    await subscription.gate.on_partitions_revoked({PLACE})
    await subscription.on_batch([record(CREATE, 4)])
    assert await decided(processor) == 0
    await subscription.gate.on_partitions_assigned({PLACE})
    await subscription.on_batch([record(CREATE, 4)])
    assert await decided(processor) == 1


async def test_a_rebalance_that_waits_no_longer_leaves_the_batch_to_its_end(
    processor: BatchProcessor, subscription: Subscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consume, "REVOKE_WAIT_S", 0.05)
    relay: Any = processor.relay
    consumer: Any = subscription.consumer
    await processor.run_unit(lambda unit: None)
    relay.slow.clear()
    await subscription.on_batch([record(CREATE, 4)])
    await subscription.gate.on_partitions_revoked({PLACE})
    await subscription.gate.on_partitions_assigned({PLACE})
    relay.slow.set()
    await subscription.on_batch([record(CANCEL, 5)])
    await subscription.stop()
    assert consumer.committed[-1] == 6 and sent(processor) == ["create_command", "cancel_command"]


async def test_several_small_batches_are_committed_together() -> None:
    consumer, times = NotingConsumer(), []
    commits = OffsetCommits(lambda: consumer, Telemetry("t", "i"), "g", lambda: times.append(1))
    for offset in (3, 7, 9):
        commits.mark_done({PLACE: offset})

    async def committed() -> list[int]:
        return consumer.committed

    assert await eventually(committed, 5) == [9] and times == [1]
    commits.mark_done({PLACE: 12})
    await commits.flush()
    assert consumer.committed == [9, 12], "a requested commit happens at once"
    await commits.flush()
    assert consumer.committed == [9, 12], "no offset is committed twice"


async def test_a_long_expired_key_is_deleted_from_its_topic_too(processor: BatchProcessor) -> None:
    issued = next(m for m in OTHERS if type(m) is AccessKeyIssued)
    long_over = instant(clock.unix() - EXPIRED_KEPT_S - 5)
    over = issued.model_copy(update={"key_hash": "0" * 64, "expires_at": long_over})
    unseen = issued.model_copy(update={"key_hash": "1" * 64, "expires_at": instant(clock.unix() + 60)})
    await processor.store.transact(lambda c: (ACCESS.create(c), enter_key(c, over)))
    relay: Any = processor.relay
    item = dataclasses.replace(inbound(CREATE)[0], message=unseen)
    await processor.run_unit(lambda unit: apply_access(unit, [item]))
    assert not relay.sent, "only the service that writes the topic writes tombstones"
    await processor.store.transact(lambda c: enter_key(c, over))
    await processor.run_unit(lambda unit: apply_access(unit, [item], owns_topic=True))
    [grave] = relay.sent
    assert (grave.topic, grave.key, grave.value) == (ACCESS_EVENTS_TOPIC.name, b"0" * 64, b"")


async def test_a_tombstone_of_a_compacted_topic_is_not_a_dead_letter(processor: BatchProcessor) -> None:
    relay: Any = processor.relay
    tombstone = dataclasses.replace(record(CREATE), topic=ACCESS_EVENTS_TOPIC.name, value=None, headers=())
    await Subscription(processor, [ACCESS_EVENTS_TOPIC], "g", echo).on_batch([tombstone])
    await processor.flush_outbox()
    assert not relay.sent
    lost = dataclasses.replace(record(CREATE), value=None)
    await Subscription(processor, [JOB_COMMANDS_TOPIC], "g", echo).on_batch([lost])
    await processor.flush_outbox()
    assert [row.topic for row in relay.sent] == ["job.commands.g.dlq"], "on a topic that is not compacted, it is a dead letter"


async def test_a_record_that_stays_sealed_is_skipped_with_a_line_of_the_log(
    processor: BatchProcessor, subscription: Subscription, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    sealed = record(CREATE, 4)
    sealed.headers = ((SEAL_HEADER, b"k"), ("content-type", CONTENT_TYPE))
    await subscription.on_batch([sealed, record(CANCEL, 5)])
    await subscription.stop()
    consumer: Any = subscription.consumer
    assert sent(processor) == ["cancel_command"] and consumer.committed == [6], "no dead letter, and the offset is free"
    assert [r for r in caplog.records if "sealed records" in r.message and getattr(r, "count", 0) == 1]
