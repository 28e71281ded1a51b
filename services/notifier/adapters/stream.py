"""The event stream for consumers. It reads from Kafka; its cursor holds the position in every partition."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts import Message, Topic, UndecodableRecord, from_record
from contracts.alfred import AlfredEvent
from services.notifier.core.delivery import event_names, wanted
from shared.kafka.connection import KafkaAccess

PING_S = 15.0
_CURSOR = re.compile(r"[jfs]\d{1,5}:\d{1,19}(?:,[jfs]\d{1,5}:\d{1,19})*")


class BadCursor(ValueError):
    """`Last-Event-ID` is not a cursor of this stream."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item of the stream: an event with its cursor, a `hello` or `resync` notice, or a ping (`data` is None)."""

    cursor: str | None
    name: str
    data: str | None


class EventStream:
    """Reads `topics` for one tenant. In cursors a topic is named by its first letter."""

    def __init__(self, kafka: KafkaAccess, topics: Sequence[Topic]) -> None:
        self.kafka = kafka
        self.stopping = asyncio.Event()
        self.topics = {t.name[0]: t for t in topics}
        self.allowed = {t.name: frozenset(m.TYPE for m in t.models) for t in topics}

    def parse(self, cursor: str) -> dict[TopicPartition, int]:
        """Partition → last offset that the client received. Raises `BadCursor`."""
        if not _CURSOR.fullmatch(cursor):
            raise BadCursor("Last-Event-ID: not a cursor of this stream")
        found: dict[TopicPartition, int] = {}
        for part in cursor.split(","):
            place, _, offset = part.partition(":")
            found[TopicPartition(self.topics[place[0]].name, int(place[1:]))] = int(offset)
        return found

    async def read(
        self, tenant: str, cursor: str | None, from_start: bool, filters: Sequence[str], job_id: str | None
    ) -> AsyncIterator[Item]:
        """Events after `cursor`; without it, all retained events if `from_start`, else new events only. Pings when idle."""
        consumer = AIOKafkaConsumer(
            *self.allowed, **self.kafka.options, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest",
            fetch_max_wait_ms=500,
        )  # fmt: skip
        await consumer.start()
        try:
            position, resync = await self._seek(consumer, self.parse(cursor) if cursor else None, from_start)
            if resync:
                yield Item(self._cursor(position), "resync", '{"reason": "events between are no longer kept"}')
            else:
                yield Item(self._cursor(position), "hello", "{}")
            while not self.stopping.is_set():
                batch = await self._next(consumer)
                if not batch:
                    yield Item(None, "ping", None)
                for tp, records in batch.items():
                    for record in records:
                        position[tp] = record.offset
                        message = self._wanted(record, tenant, filters, job_id)
                        if message is not None:
                            yield Item(self._cursor(position), _name(message), message.to_json().decode())
        finally:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(consumer.stop())

    async def _next(self, consumer: Any) -> dict[TopicPartition, list[Any]]:
        """The next records; empty after `PING_S` or on shutdown."""
        fetching = asyncio.ensure_future(consumer.getmany(timeout_ms=int(PING_S * 1000), max_records=500))
        stopping = asyncio.ensure_future(self.stopping.wait())
        try:
            await asyncio.wait({fetching, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return fetching.result() if fetching.done() else {}
        finally:
            for task in (fetching, stopping):
                task.cancel()
            await asyncio.gather(fetching, stopping, return_exceptions=True)

    async def _seek(
        self, consumer: Any, seen: dict[TopicPartition, int] | None, from_start: bool
    ) -> tuple[dict[TopicPartition, int], bool]:
        # Without a group, a subscription is an assignment of every partition.
        partitions = list(consumer.assignment())
        first = await consumer.beginning_offsets(partitions)
        end = await consumer.end_offsets(partitions)
        resync = False
        position: dict[TopicPartition, int] = {}
        for tp in partitions:
            start = first[tp] if from_start or seen is not None else end[tp]
            if seen is not None and tp in seen:
                start = min(seen[tp] + 1, end[tp])
                resync = resync or start < first[tp]
                start = max(start, first[tp])
            consumer.seek(tp, start)
            position[tp] = start - 1
        return position, resync

    def _cursor(self, position: dict[TopicPartition, int]) -> str | None:
        # A partition that has not been read is left out; resuming starts it at its beginning.
        return ",".join(f"{tp.topic[0]}{tp.partition}:{o}" for tp, o in sorted(position.items()) if o >= 0) or None

    def _wanted(self, record: Any, tenant: str, filters: Sequence[str], job_id: str | None) -> Message | None:
        if dict(record.headers).get("ce_tenant", tenant.encode()) != tenant.encode():
            return None
        try:
            message = from_record(record.value, record.headers, self.allowed[record.topic])
        except UndecodableRecord:
            return None
        alfred = message.event.NAME if isinstance(message, AlfredEvent) else None
        if message.tenant != tenant or not wanted(filters, event_names(message.TYPE, alfred)):
            return None
        event = message.event if isinstance(message, AlfredEvent) else message
        return message if job_id is None or getattr(event, "job_id", None) == job_id else None


def _name(message: Message) -> str:
    return event_names(message.TYPE, None)[0]
