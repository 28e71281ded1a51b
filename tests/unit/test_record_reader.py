"""The record reader passes records to its handler promptly, in order, in bounded memory and without a deadlock."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError

from shared.kafka import record_reader
from shared.kafka.offset_commits import rewind
from shared.kafka.record_reader import BATCH_BYTES, QUEUE_BYTES, QUEUE_RECORDS, SMALL_BYTES, RecordReader
from tests.eventually import eventually
from tests.unit.fake_consumer import FakeConsumer

EVENTS, ANSWERS = TopicPartition("job.events", 0), TopicPartition("job.answers", 0)
DEEP = 5 * QUEUE_RECORDS


class Handling:
    """A handler that records its batches and waits while `busy`."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.free = asyncio.Event()
        self.free.set()
        self.inside = asyncio.Event()

    async def __call__(self, records: Sequence[Any]) -> None:
        self.inside.set()
        await self.free.wait()
        self.batches.append(list(records))

    def offsets(self, partition: TopicPartition) -> list[int]:
        return [r.offset for batch in self.batches for r in batch if (r.topic, r.partition) == partition]

    async def reached(self, partition: TopicPartition, count: int) -> list[int]:
        """The handled offsets of a partition, when offset `count - 1` is the last of them."""

        async def enough() -> bool:
            return self.offsets(partition)[-1:] == [count - 1]

        await eventually(enough, 5, 0.002)
        return self.offsets(partition)


@pytest.fixture
def consumer(monkeypatch: pytest.MonkeyPatch) -> FakeConsumer:
    monkeypatch.setattr(record_reader, "POLL_MS", 10)
    monkeypatch.setattr(record_reader, "ERROR_PAUSE_S", 0.0)
    made = FakeConsumer()
    made.assign([EVENTS, ANSWERS])
    return made


@pytest.fixture
def handling() -> Handling:
    return Handling()


@pytest.fixture
async def reader(consumer: FakeConsumer, handling: Handling) -> AsyncIterator[RecordReader]:
    made = RecordReader(lambda: consumer, handling, "test", max_records=800)
    running = asyncio.create_task(made.run())
    await asyncio.wait([running], timeout=0.01)
    yield made
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def fill(consumer: FakeConsumer, handling: Handling, *partitions: TopicPartition) -> None:
    """A backlog behind a handler that is busy: the queue is full."""
    handling.free.clear()
    for partition in partitions or (EVENTS, ANSWERS):
        consumer.append(partition, *[b"x"] * DEEP)

    async def full() -> bool:
        return consumer.paused() == consumer.assignment()

    await eventually(full, 5, 0.002)


async def test_records_are_handled_as_they_arrive(consumer: FakeConsumer, handling: Handling, reader: RecordReader) -> None:
    consumer.append(EVENTS, b"a", None)
    assert await handling.reached(EVENTS, 2) == [0, 1]
    consumer.append(EVENTS, b"b")
    assert await handling.reached(EVENTS, 3) == [0, 1, 2]


async def test_a_batch_in_hand_delays_no_fetch(consumer: FakeConsumer, handling: Handling, reader: RecordReader) -> None:
    handling.free.clear()
    consumer.append(EVENTS, b"a")
    await handling.inside.wait()
    for value in (b"b", b"c", b"d"):
        consumer.append(EVENTS, value)
        consumer.append(ANSWERS, value)

        async def fetched(count: int = len(consumer.logs[EVENTS])) -> bool:
            return consumer.positions[EVENTS] == count

        await eventually(fetched, 5, 0.002)
    handling.free.set()
    assert await handling.reached(ANSWERS, 3) == [0, 1, 2]
    assert len(handling.batches) == 2, "the next batch holds everything that arrived meanwhile"


async def test_a_full_queue_pauses_fetching_until_there_is_room(
    consumer: FakeConsumer, handling: Handling, reader: RecordReader
) -> None:
    await fill(consumer, handling)
    held = sum(consumer.positions.values())
    assert QUEUE_RECORDS <= held <= 2 * QUEUE_RECORDS
    polls = consumer.polls

    async def polled() -> bool:
        return consumer.polls > polls + 2

    await eventually(polled, 5, 0.002)
    assert sum(consumer.positions.values()) == held, "polled, to stay in the group, but not read"
    handling.free.set()
    assert await handling.reached(EVENTS, DEEP) == list(range(DEEP))
    assert await handling.reached(ANSWERS, DEEP) == list(range(DEEP))


async def test_a_few_large_records_fill_the_queue_as_well(
    consumer: FakeConsumer, handling: Handling, reader: RecordReader
) -> None:
    consumer.response = 1
    handling.free.clear()
    large = 1 << 20
    consumer.append(EVENTS, *[b"x" * large] * 100)

    async def full() -> bool:
        return consumer.paused() == consumer.assignment()

    await eventually(full, 5, 0.002)
    assert consumer.positions[EVENTS] * large <= QUEUE_BYTES + BATCH_BYTES, "what waits, and the batch in hand"
    handling.free.set()
    assert await handling.reached(EVENTS, 100) == list(range(100))
    await fill(consumer, handling, ANSWERS)
    reader.drop(consumer.assignment())
    assert not consumer.paused(), "dropped records take no space"


@pytest.mark.parametrize("kept", [(EVENTS,), (EVENTS, ANSWERS), ()], ids=["one lost", "all back", "all lost"])
async def test_a_rebalance_of_a_full_queue_does_not_stop_reading(
    consumer: FakeConsumer, handling: Handling, reader: RecordReader, kept: tuple[TopicPartition, ...]
) -> None:
    """Checks against a deadlock: the queue is emptied by a rebalance while the reader waits for room in it."""
    await fill(consumer, handling)
    reader.drop(consumer.assignment())
    consumer.assign(kept)
    handling.free.set()
    for partition in kept:
        # The batch in hand was not committed, so that it is handled once more.
        offsets = await handling.reached(partition, DEEP)
        assert offsets[-DEEP:] == list(range(DEEP))
    consumer.append(ANSWERS, b"after")
    consumer.assign([EVENTS, ANSWERS], committed=DEEP)
    await handling.reached(ANSWERS, DEEP + 1)


async def test_a_batch_that_is_repeated_from_a_full_queue_keeps_the_order(
    consumer: FakeConsumer, handling: Handling, reader: RecordReader
) -> None:
    await fill(consumer, handling)
    batch = [consumer.logs[EVENTS][n] for n in range(3)]
    reader.drop(rewind(consumer, batch))  # type: ignore[arg-type]
    handling.free.set()
    assert (await handling.reached(EVENTS, DEEP))[-DEEP:] == list(range(DEEP)), "the batch is repeated from its first record"
    assert await handling.reached(ANSWERS, DEEP) == list(range(DEEP)), "the other partition continues"


async def test_a_full_queue_that_is_repeated_as_a_whole_is_read_again(
    consumer: FakeConsumer, handling: Handling, reader: RecordReader
) -> None:
    await fill(consumer, handling, EVENTS)
    reader.drop(rewind(consumer, consumer.logs[EVENTS][:3]))  # type: ignore[arg-type]
    handling.free.set()
    assert (await handling.reached(EVENTS, DEEP))[-DEEP:] == list(range(DEEP))


async def test_a_failed_poll_is_counted_and_retried(consumer: FakeConsumer, handling: Handling, reader: RecordReader) -> None:
    consumer.errors += [KafkaConnectionError("one"), KafkaError("two")]

    async def failing() -> bool:
        return reader.failed_with is not None and not consumer.errors

    await eventually(failing, 5, 0.002)
    assert consumer.resets == 1, "a fenced member joins the group again"
    consumer.append(EVENTS, b"a")
    assert await handling.reached(EVENTS, 1) == [0]
    assert reader.failing_since is None and reader.last_poll > 0


async def test_errors_in_a_row_have_failed_since_the_first(consumer: FakeConsumer, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100, 200))
    monkeypatch.setattr(record_reader, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    made = RecordReader(lambda: consumer, Handling(), "test")
    seen = []
    for _ in range(2):
        made._note_failure(consumer, KafkaError("away"))
        seen.append(made.failing_since)
    assert seen == [100.0, 100.0]


async def test_an_exception_of_the_handler_ends_the_reader(consumer: FakeConsumer) -> None:
    async def broken(records: Sequence[Any]) -> None:
        raise RuntimeError("no way on")

    consumer.append(EVENTS, b"a")
    with pytest.raises(RuntimeError, match="no way on"):
        await asyncio.wait_for(RecordReader(lambda: consumer, broken, "test").run(), 5)


@pytest.mark.parametrize(("size", "pauses"), [(1, 1), (SMALL_BYTES - 1, 1), (SMALL_BYTES, 0)])
async def test_a_small_response_is_followed_by_a_pause(
    consumer: FakeConsumer, handling: Handling, reader: RecordReader, monkeypatch: pytest.MonkeyPatch, size: int, pauses: int
) -> None:
    slept: list[float] = []
    reader.fetch_pause_s = 30.0

    async def pause(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(record_reader, "asyncio", SimpleNamespace(**{**vars(asyncio), "sleep": pause}))
    consumer.append(EVENTS, b"x" * size)
    await handling.reached(EVENTS, 1)
    assert slept == [30.0] * pauses


async def test_large_records_make_small_batches(consumer: FakeConsumer, handling: Handling, reader: RecordReader) -> None:
    third = b"x" * (BATCH_BYTES // 3 + 1)
    handling.free.clear()
    consumer.append(EVENTS, b"a")
    await handling.inside.wait()
    consumer.append(EVENTS, *[third] * 4)
    consumer.append(ANSWERS, b"b", b"x" * (BATCH_BYTES + 1), b"c")

    async def fetched() -> bool:
        return consumer.positions == {EVENTS: 5, ANSWERS: 3}

    await eventually(fetched, 5, 0.002)
    handling.free.set()
    assert await handling.reached(ANSWERS, 3) == [0, 1, 2] and await handling.reached(EVENTS, 5) == [0, 1, 2, 3, 4]
    for batch in handling.batches:
        assert sum(len(r.value) for r in batch[:-1]) <= BATCH_BYTES, "complete with the record that passes the limit"
    assert len(handling.batches) > 3
