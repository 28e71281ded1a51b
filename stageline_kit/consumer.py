"""Typed events in batches: decoded, without repeats, gaps noticed, unreadable records set aside, offsets committed by you."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts import Message, UndecodableRecord, dead_letter_topic, from_record
from contracts.alfred import AlfredEvent
from contracts.topics import TASK_PREFIX, TOPICS, task_topic
from stageline_kit.producer import Producer
from stageline_kit.telemetry import processing, traceparent


@dataclass(frozen=True, slots=True)
class Event:
    """One message, and where it was."""

    message: Message
    topic: str
    partition: int
    offset: int
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def id(self) -> str:
        """Identity: the same again is a repeat. Type and id, as two types may share one."""
        return f"{self.message.TYPE}/{self.message.message_id}"

    @property
    def data(self) -> Any:
        """What it says: the inner object of a job or file event, the message itself otherwise."""
        return self.message.event if isinstance(self.message, AlfredEvent) else self.message

    @property
    def job_id(self) -> str | None:
        """The job that it is about."""
        return getattr(self.data, "job_id", None)

    @property
    def sequence(self) -> int | None:
        """Number of a job event within its job, dense from 1."""
        return self.data.sequence if isinstance(self.message, AlfredEvent) else None

    @property
    def trace(self) -> str | None:
        """The `traceparent` that it carries."""
        return traceparent(self.headers)

    def processing(self, group: str | None = None) -> AbstractContextManager[str | None]:
        """Handle it in here for a `process` span in the job's trace (OpenTelemetry); yields the context to pass on."""
        where = {
            "messaging.message.id": self.message.message_id, "messaging.destination.partition.id": str(self.partition),
            "messaging.kafka.offset": self.offset, "cloudevents.event_type": self.message.TYPE,
        }  # fmt: skip
        return processing(self.topic, group, self.headers, **where)


@dataclass(frozen=True, slots=True)
class Gap:
    """Between these two numbers, events of a job are missing."""

    job_id: str
    expected: int
    found: int


@dataclass
class Batch:
    """What came at once. Handle `events`, then `commit`; if your program dies before, they come again."""

    events: list[Event]
    gaps: list[Gap]
    consumer: Consumer
    offsets: dict[TopicPartition, int] = field(default_factory=dict)
    """Partition → the offset after the last record of this batch, repeats and unreadable ones included."""

    def __iter__(self) -> Any:
        return iter(self.events)

    async def commit(self) -> None:
        """Tell Kafka that all of this is done."""
        await self.consumer.commit(self.offsets)


def allowed_types(topic: str) -> frozenset[str]:
    """CloudEvents types that the topic table lets a topic carry. Raises `ValueError` for a topic that is not in it."""
    row = task_topic(topic) if topic.startswith(TASK_PREFIX) else next((t for t in TOPICS if t.name == topic), None)
    if row is None:
        raise ValueError(f"{topic!r} is not a topic of Stageline")
    return frozenset(m.TYPE for m in row.models)


class Consumer:
    """An async context manager and iterator of batches, as member of consumer group `group`.

    `instance` names this process within the group for good (static membership): killed and started again, it goes on at once
    instead of waiting until Kafka has given up its former life.
    Unreadable records go to `<topic>.<group>.dlq` with their bytes untouched if `dead_letters` is on (the topic must exist, or
    may be created automatically), else they are only counted in `unreadable`. `tenant` leaves out everybody else's events.
    Repeats are dropped by id among the last `remember` events; across restarts use `Inbox`. `kafka` are aiokafka's options.
    """

    def __init__(
        self, bootstrap_servers: str, group: str, topics: Sequence[str] = ("job.events", "file.events"), *, max_records: int = 500,
        instance: str | None = None, tenant: str | None = None, dead_letters: bool = False, remember: int = 100_000, **kafka: Any,
    ) -> None:  # fmt: skip
        self.group = group
        self.allowed = {topic: allowed_types(topic) for topic in topics}
        self.tenant = tenant.encode() if tenant else None
        self.max_records = max_records
        self.unreadable = 0
        self.remember = remember
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._sequences: OrderedDict[str, int] = OrderedDict()
        self._letters = Producer(bootstrap_servers, f"/{group}", **kafka) if dead_letters else None
        self._consumer = AIOKafkaConsumer(
            *topics, bootstrap_servers=bootstrap_servers, group_id=group, group_instance_id=instance, enable_auto_commit=False, auto_offset_reset="earliest",
            consumer_timeout_ms=60_000, **kafka,
        )  # fmt: skip

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        if self._letters is not None:
            await self._letters.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._letters is not None:
            await self._letters.__aexit__()
        await self._consumer.stop()

    async def __aiter__(self) -> AsyncIterator[Batch]:
        while True:
            records = await self._consumer.getmany(timeout_ms=1000, max_records=self.max_records)
            if records:
                yield await self._batch(records)

    async def _batch(self, records: dict[TopicPartition, list[Any]]) -> Batch:
        batch = Batch([], [], self)
        for tp, found in records.items():
            for record in found:
                event = await self._read(record)
                if event is not None:
                    batch.events.append(event)
                    self._follow(event, batch)
            batch.offsets[tp] = found[-1].offset + 1
        return batch

    async def _read(self, record: Any) -> Event | None:
        if self.tenant is not None and dict(record.headers).get("ce_tenant", self.tenant) != self.tenant:
            return None
        try:
            message = from_record(record.value, record.headers, self.allowed[record.topic])
        except UndecodableRecord as error:
            await self._set_aside(record, error)
            return None
        event = Event(message, record.topic, record.partition, record.offset, tuple(record.headers))
        return None if self._repeated(event.id) else event

    def _repeated(self, event_id: str) -> bool:
        if event_id in self._seen:
            return True
        self._seen[event_id] = None
        if len(self._seen) > self.remember:
            self._seen.popitem(last=False)
        return False

    def _follow(self, event: Event, batch: Batch) -> None:
        if event.sequence is None or event.job_id is None:
            return
        before = self._sequences.pop(event.job_id, None)
        if before is not None and event.sequence > before + 1:
            batch.gaps.append(Gap(event.job_id, before + 1, event.sequence))
        self._sequences[event.job_id] = max(event.sequence, before or 0)
        if len(self._sequences) > self.remember:
            self._sequences.popitem(last=False)

    async def _set_aside(self, record: Any, error: UndecodableRecord) -> None:
        self.unreadable += 1
        if self._letters is None:
            return
        facts = {
            "dlq-original-topic": record.topic, "dlq-original-partition": record.partition, "dlq-original-offset": record.offset,
            "dlq-group": self.group, "dlq-code": error.code, "dlq-reason": str(error)[:1000], "dlq-failed-at": time.time(),
        }  # fmt: skip
        headers = [*record.headers, *((name, str(value).encode()) for name, value in facts.items())]
        await self._letters.send_raw(dead_letter_topic(record.topic, self.group), record.key, record.value, headers)

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        """Commit offsets of partitions that are still ours; others belong to their new owner, who gets those records again."""
        mine = {tp: offset for tp, offset in offsets.items() if tp in self._consumer.assignment()}
        if mine:
            await asyncio.shield(self._consumer.commit(mine))
