"""One reader per process feeds all event streams: each record is read once, and nothing is missing or repeated for a stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaConnectionError
from fastapi import FastAPI

from contracts import JobCreate, to_record
from contracts.topics import JOB_EVENTS_TOPIC
from services.notifier.adapters import feed as feeds
from services.notifier.adapters import http as routes
from services.notifier.adapters import stream as streams
from services.notifier.adapters.feed import EventFeed, Subscriber
from services.notifier.adapters.stream import EventStream, Item
from stageline_kit.record_seals import RecordSeals
from tests.contracts.examples import example
from tests.eventually import eventually

PLACE = TopicPartition(JOB_EVENTS_TOPIC.name, 0)


class Log:
    """A topic of one partition, and how many consumers were opened on it."""

    def __init__(self) -> None:
        self.records: list[ConsumerRecord[Any, Any]] = []
        self.first = 0
        self.opened = self.open = 0
        self.away = False
        """The broker does not answer: polls find nothing, everything else fails."""
        self.hangs = False
        """The broker accepts requests and answers none."""
        self.grew = asyncio.Event()

    def append(self, tenant: str, job_id: str) -> None:
        made_of = example(JobCreate)
        assert isinstance(made_of, JobCreate)
        message = made_of.model_copy(update={"event": made_of.event.model_copy(update={"company_id": tenant, "job_id": job_id})})
        made = to_record(message, "/t")
        self.records.append(
            ConsumerRecord(PLACE.topic, 0, len(self.records), 1000, 0, made.key, made.value, None, 0, 0, made.headers)
        )
        self.grew.set()

    def consumer(self, *topics: str, **options: Any) -> Any:
        self.opened += 1
        return Consumer(self)


class Consumer:
    def __init__(self, log: Log) -> None:
        self.log, self.place = log, 0
        log.open += 1

    async def answer(self) -> None:
        if self.log.hangs:
            await asyncio.Event().wait()
        if self.log.away:
            raise KafkaConnectionError("away")

    async def start(self) -> None:
        await self.answer()

    async def stop(self) -> None:
        self.log.open -= 1

    def assignment(self) -> set[TopicPartition]:
        return {PLACE}

    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        await self.answer()
        return {PLACE: self.log.first}

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        await self.answer()
        return {PLACE: len(self.log.records)}

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.place = offset

    async def getmany(self, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[Any]]:
        if self.log.away and self.log.opened > 1:
            raise KafkaConnectionError("away")
        if self.place >= len(self.log.records):
            self.log.grew.clear()
            await self.log.grew.wait()
        found = self.log.records[self.place : self.place + max_records]
        self.place += len(found)
        return {PLACE: found}


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    made = Log()
    monkeypatch.setattr(feeds, "AIOKafkaConsumer", made.consumer)
    monkeypatch.setattr(streams, "AIOKafkaConsumer", made.consumer)
    return made


@pytest.fixture
async def feed(log: Log) -> AsyncIterator[EventFeed]:
    made = EventFeed(SimpleNamespace(options={}), [JOB_EVENTS_TOPIC], RecordSeals({}))  # type: ignore[arg-type]
    running = asyncio.create_task(made.run())
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


class Reader:
    """Collects the items of one stream."""

    def __init__(self, stream: EventStream, tenant: str, cursor: str | None = None, from_start: bool = False) -> None:
        self.items: list[Item] = []
        self._task = asyncio.create_task(self._read(stream.read(tenant, cursor, from_start, [], None)))

    async def _read(self, items: AsyncIterator[Item]) -> None:
        async for item in items:
            self.items.append(item)

    @property
    def jobs(self) -> list[str]:
        return [json.loads(i.data)["event"]["job_id"] for i in self.items if i.name == "job.create" and i.data]

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def holds(look: Callable[[], bool]) -> None:
    async def asked() -> bool:
        return look()

    await eventually(asked)


async def test_fifty_streams_are_fed_by_one_reader(log: Log, feed: EventFeed) -> None:
    log.append("a", "before")
    stream = EventStream(feed)
    readers = [Reader(stream, "a") for _ in range(50)] + [Reader(stream, "b")]
    await holds(lambda: all(r.items for r in readers))
    for number in range(3):
        log.append("a", f"j{number}")
    log.append("b", "other")
    await holds(lambda: all(r.jobs == ["j0", "j1", "j2"] for r in readers[:50]) and readers[50].jobs == ["other"])
    assert log.opened == 1, "no stream has a consumer of its own"
    for reader in readers:
        await reader.close()


async def test_a_stream_resumes_at_its_cursor_without_a_gap_or_a_repeat(log: Log, feed: EventFeed) -> None:
    for number in range(5):
        log.append("a" if number % 2 == 0 else "b", f"j{number}")
    stream = EventStream(feed)
    first = Reader(stream, "a", from_start=True)
    await holds(lambda: first.jobs == ["j0", "j2", "j4"])
    cursor = next(i.cursor for i in first.items if i.name == "job.create")
    await first.close()
    again = Reader(stream, "a", cursor=cursor)
    await holds(lambda: again.jobs == ["j2", "j4"])
    log.append("a", "j5")
    await holds(lambda: again.jobs == ["j2", "j4", "j5"])
    assert next(i.name for i in again.items if i.data) == "hello"
    await again.close()


async def test_a_cursor_whose_next_events_are_gone_says_so(log: Log, feed: EventFeed) -> None:
    for number in range(6):
        log.append("a", f"j{number}")
    log.first = 4
    reader = Reader(EventStream(feed), "a", cursor="j0:1")
    await holds(lambda: "resync" in [i.name for i in reader.items] and len(reader.items) >= 2)
    await reader.close()


@pytest.mark.parametrize("cursor", ["j0:6", "j0:9999999999999999999", "j0:3,j7:1"], ids=["next", "far", "no such partition"])
async def test_a_cursor_past_the_end_says_so_and_goes_on(log: Log, feed: EventFeed, cursor: str) -> None:
    for number in range(6):
        log.append("a", f"j{number}")
    reader = Reader(EventStream(feed), "a", cursor=cursor)
    await holds(lambda: "resync" in [i.name for i in reader.items])
    told = next(i for i in reader.items if i.name == "resync")
    assert "past the end" in str(told.data) and told.cursor is not None and EventStream(feed).parse(told.cursor)[PLACE] <= 5
    log.append("a", "new")
    await holds(lambda: reader.jobs[-1:] == ["new"])
    await reader.close()


async def test_the_last_cursor_is_not_past_the_end(log: Log, feed: EventFeed) -> None:
    for number in range(6):
        log.append("a", f"j{number}")
    reader = Reader(EventStream(feed), "a", cursor="j0:5")
    await holds(lambda: feed.reading.is_set() and bool(reader.items))
    log.append("a", "new")
    await holds(lambda: reader.jobs == ["new"])
    assert "resync" not in [i.name for i in reader.items]
    await reader.close()


async def test_a_stream_that_does_not_keep_up_reads_what_it_missed_as_history(
    log: Log, feed: EventFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "MOST_QUEUED", 10)
    stream = EventStream(feed)
    items = stream.read("a", None, False, [], None)
    assert (await anext(items)).name == "hello"
    for number in range(40):
        log.append("a", f"j{number}")
    await holds(lambda: feed.position.get(PLACE) == 39)
    seen: list[str] = []
    async with asyncio.timeout(10):
        while len(seen) < 40:
            item = await anext(items)
            if item.data and item.name == "job.create":
                seen.append(json.loads(item.data)["event"]["job_id"])
    assert seen == [f"j{n}" for n in range(40)]
    await items.aclose()  # type: ignore[attr-defined]


async def test_the_reader_stops_and_starts_with_its_followers(log: Log, feed: EventFeed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "LINGER_S", -1.0)
    with feed.subscribe("a") as live:
        await live.ready(5)
    log.append("a", "unseen")
    await holds(lambda: not feed.reading.is_set())
    subscriber = Subscriber(feed)
    subscriber.follow("a")
    await subscriber.ready(5)
    log.append("a", "seen")
    entries = await subscriber.take(5)
    assert [e.offset for e in entries] == [1] and log.opened == 2


async def answer_of(stream: EventStream, monkeypatch: pytest.MonkeyPatch, query: str = "") -> httpx.Response:
    """The answer to a request for a stream, once it is complete."""
    monkeypatch.setattr(streams, "READY_S", 0.2)
    monkeypatch.setattr(feeds, "ASK_AGAIN_S", 0.01)

    async def caller() -> Any:
        return SimpleNamespace(tenant_id="a")

    app = FastAPI()
    app.include_router(routes.router)
    routes.install_errors(app)
    app.state.notifier = SimpleNamespace(stream=stream)
    app.dependency_overrides[routes._streaming] = caller
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as client, asyncio.timeout(10):
        return await client.get(f"/events/stream{query}")


@pytest.mark.parametrize("trouble", ["away", "hangs"])
@pytest.mark.parametrize("query", ["", "?start=beginning", "?after=j0:0"])
@pytest.mark.parametrize("followed", [False, True], ids=["first stream", "beside another"])
async def test_a_stream_while_kafka_is_away_is_503_and_leaves_nothing_open(
    log: Log, feed: EventFeed, monkeypatch: pytest.MonkeyPatch, trouble: str, query: str, followed: bool
) -> None:
    stream = EventStream(feed)
    other = Reader(stream, "a") if followed else None
    if other is not None:
        await holds(lambda: bool(other.items))
    setattr(log, trouble, True)
    answer = await answer_of(stream, monkeypatch, query)
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:stageline:error:kafka_unavailable")
    assert answer.headers["retry-after"] and answer.headers["content-type"] == "application/problem+json"
    assert log.open <= 1 and list(feed._followers) == (["a"] if followed else [])
    if other is not None:
        await other.close()


async def test_a_stream_whose_history_kafka_does_not_give_now_goes_on_later(
    log: Log, feed: EventFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "AGAIN_S", 0.01)
    for number in range(3):
        log.append("a", f"j{number}")
    reader = EventStream(feed).read("a", None, True, [], None)
    assert (await anext(reader)).name == "hello"
    log.away = True
    assert [(await anext(reader)).name for _ in range(3)] == ["ping"] * 3
    assert log.open == 1, "each consumer of a page is closed"
    log.away = False
    seen: list[str] = []
    async with asyncio.timeout(10):
        while len(seen) < 3:
            item = await anext(reader)
            if item.data and item.name == "job.create":
                seen.append(json.loads(item.data)["event"]["job_id"])
    assert seen == ["j0", "j1", "j2"]
    await reader.aclose()  # type: ignore[attr-defined]
