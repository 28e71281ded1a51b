"""The guarantees of the batch processor, with a real store and a relay that records what it would send."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, OperationalError

from contracts import CancelJob
from contracts.topics import JOB_COMMANDS_TOPIC
from shared.errors import DeadLetter, Retry, Stop
from shared.processing import fault_window
from shared.processing.fault_window import FaultWindow
from shared.processing.processor import PRUNED_AT_ONCE, BatchProcessor
from shared.processing.records import Inbound
from shared.processing.subscription import Subscription
from shared.processing.unit_of_work import Unit
from tests.unit.fake_relay import CANCEL, CREATE, inbound, record


async def test_a_repeated_message_is_handled_once(processor: BatchProcessor) -> None:
    seen: list[str] = []

    def handler(unit: Unit, batch: Sequence[Inbound]) -> None:
        seen.extend(i.message.message_id + i.message.TYPE for i in batch)

    await processor.process_batch(handler, inbound(CREATE, CREATE, CANCEL), [], "g")
    await processor.process_batch(handler, inbound(CREATE), [], "g")
    assert len(seen) == 2


async def test_a_dead_lettered_record_is_not_in_the_inbox_and_its_neighbours_are(processor: BatchProcessor) -> None:
    handled: list[Inbound] = []

    def handler(unit: Unit, batch: Sequence[Inbound]) -> None:
        for item in batch:
            with item.guard():
                handled.append(item)
                if item is refused and len(handled) < 3:
                    raise DeadLetter("unknown", "not yet")

    before, refused, repeat = batch = inbound(CREATE, CANCEL, CREATE)
    await processor.process_batch(handler, batch, [], "g")
    assert handled == [before, refused] and refused.dead_letter is not None
    refused.dead_letter = None
    await processor.process_batch(handler, [refused, repeat, before], [], "g")
    assert handled == [before, refused, refused], "sent again, the dead-lettered record alone is processed"


async def test_the_inbox_shrinks_faster_than_it_grows(processor: BatchProcessor) -> None:
    old = text("INSERT INTO seen (message_id, seen_at) VALUES (:id, 1.0)")
    many = 2 * PRUNED_AT_ONCE + 5

    async def left() -> int:
        return int(
            await processor.store.read(lambda c: c.execute(text("SELECT count(*) FROM seen WHERE seen_at = 1.0")).scalar()) or 0
        )

    await processor.run_unit(lambda unit: None)
    await processor.store.transact(lambda c: c.execute(old, [{"id": f"m{n}"} for n in range(many)]))
    await processor.run_unit(lambda unit: None)
    assert await left() == many, "the inbox was cleaned a moment ago"
    processor._pruned_at = float("-inf")
    for step in (PRUNED_AT_ONCE + 5, 5, 0):
        await processor.run_unit(lambda unit: None)
        assert await left() == step


async def test_facts_are_sent_before_commands_and_survive_an_outage(processor: BatchProcessor) -> None:
    def handler(unit: Unit, batch: Sequence[Inbound]) -> None:
        for item in batch:
            unit.emit("stage.tasks.noop", item.message, None, command=True)
            unit.emit("job.events", item.message, None)

    relay: Any = processor.relay
    await processor.process_batch(lambda unit, batch: None, [], [], "g")
    relay.down = True
    with pytest.raises(Retry):
        await processor.process_batch(handler, inbound(CREATE), [], "g")
    relay.down = False
    # The same input again: the inbox drops it, and the earlier decision's records are sent nevertheless.
    await processor.process_batch(handler, inbound(CREATE), [], "g")
    assert [row.topic for row in relay.sent] == ["job.events", "stage.tasks.noop"]
    await processor.run_unit(lambda unit: None)
    assert await processor.store.read(lambda c: c.execute(text("SELECT count(*) FROM outbox_batch")).scalar()) == 0


async def test_a_dead_lettered_message_is_no_repeat_later(processor: BatchProcessor) -> None:
    refuse = True

    def handler(unit: Unit, batch: Sequence[Inbound]) -> None:
        for item in batch:
            with item.guard():
                if refuse:
                    raise DeadLetter("no_good", "field: reason")
                unit.emit("job.events", item.message, None)

    relay: Any = processor.relay
    await processor.process_batch(handler, inbound(CREATE), [], "g")
    (letter,) = relay.sent
    headers = dict(letter.headers)
    assert (
        letter.topic == "job.commands.g.dlq"
        and headers["dlq-code"] == b"no_good"
        and headers["ce_id"] == CREATE.message_id.encode()
    )
    refuse = False
    await processor.process_batch(handler, inbound(CREATE), [], "g")
    assert relay.sent[-1].topic == "job.events", "sent again, it is handled"


async def test_a_fault_dead_letters_one_record_until_there_are_too_many(
    processor: BatchProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def handler(unit: Unit, batch: Sequence[Inbound]) -> None:
        for item in batch:
            with item.guard():
                raise KeyError("bug")

    processor.park_limit = 2
    for _ in range(3):
        await processor.process_batch(handler, inbound(CREATE), [], "g")
        monkeypatch.setattr(fault_window, "WINDOW_S", -1.0)
    relay: Any = processor.relay
    assert len(relay.sent) == 3, "faults of long ago count no more"
    relay.sent.clear()
    monkeypatch.setattr(fault_window, "WINDOW_S", 600.0)
    processor.faults = FaultWindow()
    await processor.process_batch(handler, inbound(CREATE, CANCEL), [], "g")
    assert [dict(r.headers)["dlq-code"] for r in relay.sent] == [b"handler_error"] * 2
    with pytest.raises(Stop, match="failed on"):
        await processor.process_batch(handler, inbound(CREATE), [], "g")


async def test_a_record_that_no_handler_guards_is_dead_lettered_alone(processor: BatchProcessor) -> None:
    handled: list[str] = []

    def handler(unit: Unit, batch: Sequence[Inbound]) -> None:
        if any(isinstance(i.message, CancelJob) for i in batch):
            raise KeyError("bug")
        handled.extend(i.message.TYPE for i in batch)

    await processor.process_batch(handler, inbound(CREATE, CANCEL), [], "g")
    relay: Any = processor.relay
    assert handled == [CREATE.TYPE]
    assert [(dict(r.headers)["dlq-code"], dict(r.headers)["ce_type"]) for r in relay.sent] == [
        (b"handler_error", CANCEL.TYPE.encode())
    ]


async def test_an_unguarded_handler_error_stops_the_process_and_commits_nothing(processor: BatchProcessor) -> None:
    def handler(unit: Unit, batch: Sequence[Inbound]) -> None:
        raise RuntimeError("bug")

    ended: asyncio.Future[Stop] = asyncio.get_running_loop().create_future()
    subscription = Subscription(processor, [JOB_COMMANDS_TOPIC], "g", handler)
    subscription.on_fatal = ended.set_result
    batch = asyncio.create_task(subscription.on_batch([record(CREATE)]))
    error = await asyncio.wait_for(ended, 5)
    assert error.code == "handler_failed" and not batch.done(), "FastStream does not get the next batch"
    batch.cancel()
    await asyncio.gather(batch, return_exceptions=True)
    assert await processor.store.read(lambda c: c.execute(text("SELECT count(*) FROM seen")).scalar()) == 0


class Aborted(Exception):
    """An exception like asyncpg's for a transaction that the server has ended."""

    sqlstate = "40P01"


@pytest.mark.parametrize(
    "fault", [DBAPIError("UPDATE", {}, Aborted("deadlock detected")), OperationalError("UPDATE", {}, Exception("locked"))]
)
async def test_an_aborted_transaction_is_no_fault_of_the_record(processor: BatchProcessor, fault: Exception) -> None:
    [item] = inbound(CREATE)
    with pytest.raises(type(fault)), item.guard():
        raise fault
    assert item.dead_letter is None, "the record is handled again, with its whole batch"
