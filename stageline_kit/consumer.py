"""Typed events in batches: decoded, without repeats, with gaps noticed. Your program commits the offsets."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Self

from aiokafka import TopicPartition

from contracts import Message, SealedRecord, UndecodableRecord, dead_letter_topic, from_record
from contracts.alfred import AlfredEvent
from contracts.topics import TASK_PREFIX, TOPICS, task_topic
from stageline_kit.closing import close_clients
from stageline_kit.connection import kafka_options
from stageline_kit.dead_letters import letter_headers
from stageline_kit.group_consumer import GroupConsumer
from stageline_kit.outages import Outages
from stageline_kit.producer import Producer
from stageline_kit.record_seals import RecordSeals
from stageline_kit.telemetry import processing, traceparent


@dataclass(frozen=True, slots=True)
class Event:
    """One message and its place in Kafka."""

    message: Message
    topic: str
    partition: int
    offset: int
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def id(self) -> str:
        """Type and message id. An event with the same identity is a repeat."""
        return f"{self.message.TYPE}/{self.message.message_id}"

    @property
    def data(self) -> Any:
        """The inner object of a job or file event; any other message itself."""
        return self.message.event if isinstance(self.message, AlfredEvent) else self.message

    @property
    def job_id(self) -> str | None:
        """Id of the job, or None."""
        return getattr(self.data, "job_id", None)

    @property
    def sequence(self) -> int | None:
        """Number of a job event within its job, dense from 1; None for other messages."""
        return self.data.sequence if isinstance(self.message, AlfredEvent) else None

    @property
    def trace(self) -> str | None:
        """The `traceparent` header, or None."""
        return traceparent(self.headers)

    def processing(self, group: str | None = None) -> AbstractContextManager[str | None]:
        """Context manager: a `process` span in the job's trace (OpenTelemetry). Yields the `traceparent` to pass on."""
        where = {
            "messaging.message.id": self.message.message_id, "messaging.destination.partition.id": str(self.partition),
            "messaging.kafka.offset": self.offset, "cloudevents.event_type": self.message.TYPE,
        }  # fmt: skip
        return processing(self.topic, group, self.headers, **where)


@dataclass(frozen=True, slots=True)
class Gap:
    """Events of a job are missing: number `expected` was due, `found` arrived."""

    job_id: str
    expected: int
    found: int


@dataclass
class Batch:
    """Events of one poll. Handle `events`, then `commit`; without a commit they are redelivered."""

    events: list[Event]
    gaps: list[Gap]
    consumer: Consumer
    offsets: dict[TopicPartition, int] = field(default_factory=dict)
    """Partition → offset after the last record of this batch, repeats and unreadable records included."""

    def __iter__(self) -> Any:
        return iter(self.events)

    async def commit(self) -> None:
        """Commit the offsets of this batch."""
        await self.consumer.commit(self.offsets)


def allowed_types(topic: str) -> frozenset[str]:
    """CloudEvents types of a topic by the topic table. Raises `ValueError` for an unknown topic."""
    row = task_topic(topic) if topic.startswith(TASK_PREFIX) else next((t for t in TOPICS if t.name == topic), None)
    if row is None:
        raise ValueError(f"{topic!r} is not a topic of Stageline")
    return frozenset(m.TYPE for m in row.models)


class Consumer:
    """An async context manager and iterator of batches, as member of consumer group `group`.

    `instance` is a static member id: a process that restarts under it continues at once, without waiting for its old session.
    With `dead_letters`, unreadable records go to `<topic>.<group>.dlq` with their bytes unchanged; that topic must exist, or
    the broker must create topics. Without it they are counted in `unreadable`. `tenant` selects the events of one tenant.
    Repeats are dropped by id among the last `remember` events; across restarts use `Inbox`. `kafka` are aiokafka's options;
    without them, addresses (None) and user come from `KAFKA_*` in the environment.
    """

    def __init__(
        self, bootstrap_servers: str | None, group: str, topics: Sequence[str] = ("job.events", "file.events"), *, max_records: int = 500,
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
        self._outages = Outages()
        self._seals = RecordSeals(kafka_options(bootstrap_servers, kafka))
        self._consumer = GroupConsumer(
            *topics, group_id=group, group_instance_id=instance, enable_auto_commit=False, auto_offset_reset="earliest",
            consumer_timeout_ms=60_000, **kafka_options(bootstrap_servers, kafka),
        )  # fmt: skip

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opened:
            opened.enter_context(self._outages)
            await self._consumer.start()
            if self._letters is not None:
                await self._letters.__aenter__()
            opened.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        letters = [self._letters.__aexit__()] if self._letters is not None else []
        await close_clients(*letters, self._seals.close(), self._consumer.stop())
        self._outages.__exit__()

    async def __aiter__(self) -> AsyncIterator[Batch]:
        while True:
            records = await self._consumer.getmany(timeout_ms=1000, max_records=self.max_records)
            await self._outages.look(self._consumer)
            if records:
                yield await self._batch(records)

    async def _batch(self, records: dict[TopicPartition, list[Any]]) -> Batch:
        batch = Batch([], [], self)
        for tp, found in records.items():
            await self._seals.open_records(found)
            for record in found:
                event = await self._read(record)
                if event is not None:
                    batch.events.append(event)
                    self._note_sequence(event, batch)
            batch.offsets[tp] = found[-1].offset + 1
        return batch

    async def _read(self, record: Any) -> Event | None:
        if self.tenant is not None and dict(record.headers).get("ce_tenant", self.tenant) != self.tenant:
            return None
        try:
            message = from_record(record.value, record.headers, self.allowed[record.topic])
        except SealedRecord:
            return None  # its job is erased
        except UndecodableRecord as error:
            await self._dead_letter(record, error)
            return None
        event = Event(message, record.topic, record.partition, record.offset, tuple(record.headers))
        return None if self._is_repeat(event.id) else event

    def _is_repeat(self, event_id: str) -> bool:
        if event_id in self._seen:
            return True
        self._seen[event_id] = None
        if len(self._seen) > self.remember:
            self._seen.popitem(last=False)
        return False

    def _note_sequence(self, event: Event, batch: Batch) -> None:
        if event.sequence is None or event.job_id is None:
            return
        before = self._sequences.pop(event.job_id, None)
        if before is not None and event.sequence > before + 1:
            batch.gaps.append(Gap(event.job_id, before + 1, event.sequence))
        self._sequences[event.job_id] = max(event.sequence, before or 0)
        if len(self._sequences) > self.remember:
            self._sequences.popitem(last=False)

    async def _dead_letter(self, record: Any, error: UndecodableRecord) -> None:
        self.unreadable += 1
        if self._letters is None:
            return
        headers = letter_headers(record, self.group, error.code, str(error))
        await self._letters.send_raw(dead_letter_topic(record.topic, self.group), record.key, record.value, headers)

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        """Commit offsets of partitions that are still assigned. The new owner of any other partition gets those records again."""
        mine = {tp: offset for tp, offset in offsets.items() if tp in self._consumer.assignment()}
        if mine:
            await asyncio.shield(self._consumer.commit(mine))
