"""The event stream for consumers. New events come from the feed; events before them are read from Kafka as pages of history.

The cursor of an item holds the position in every partition.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from contracts import Message
from contracts.alfred import AlfredEvent
from contracts.event_names import name_of, spellings_of, typed_body, wanted
from services.notifier.adapters.feed import Entry, EventFeed, Subscriber, decode
from shared.errors import Retry

log = logging.getLogger(__name__)
PING_S = 15.0
READY_S = 10.0
"""Longest wait of a new stream for the feed."""
HISTORY_AT_ONCE = 2
"""Pages of history that are read at a time. A page holds no place while its events are written to a slow client."""
AGAIN_S = 1.0
"""Pause before a page is read again that Kafka did not give."""
PAGE_EVENTS, PAGE_S = 1000, 5.0
"""Events of a page at most, and the time after which it ends."""
NOT_KEPT = "events between are no longer kept"
PAST_END = "the cursor is past the end of the events"
_CURSOR = re.compile(r"[jfs]\d{1,5}:\d{1,19}(?:,[jfs]\d{1,5}:\d{1,19})*")
Position = dict[TopicPartition, int]
"""Partition → last offset that the client has received, or that does not concern it."""


class BadCursor(ValueError):
    """`Last-Event-ID` is not a cursor of this stream."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item of the stream: an event with its cursor, a `hello` or `resync` notice, or a ping (`data` is None)."""

    cursor: str | None
    name: str
    data: str | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """The events of a stream: a tenant's, of the named types (all if empty), of one job if `job_id` is given."""

    tenant: str
    filters: Sequence[str]
    job_id: str | None

    def fits(self, message: Message) -> bool:
        """True when the event belongs to the stream."""
        if message.tenant != self.tenant or not wanted(self.filters, spellings_of(type(message))):
            return False
        event = message.event if isinstance(message, AlfredEvent) else message
        return self.job_id is None or getattr(event, "job_id", None) == self.job_id


class EventStream:
    """Streams over the topics of `feed`. In cursors a topic is named by its first letter."""

    def __init__(self, feed: EventFeed) -> None:
        self.feed = feed
        self.stopping = asyncio.Event()
        self.topics = {name[0]: name for name in feed.allowed}
        self._history = asyncio.Semaphore(HISTORY_AT_ONCE)
        self._live: set[Subscriber] = set()

    def stop(self) -> None:
        """End all streams."""
        self.stopping.set()
        for live in self._live:
            live.wake()

    def parse(self, cursor: str) -> Position:
        """Partition → last offset that the client received. Raises `BadCursor`."""
        if not _CURSOR.fullmatch(cursor):
            raise BadCursor("Last-Event-ID: not a cursor of this stream")
        found: Position = {}
        for part in cursor.split(","):
            place, _, offset = part.partition(":")
            found[TopicPartition(self.topics[place[0]], int(place[1:]))] = int(offset)
        return found

    async def read(
        self, tenant: str, cursor: str | None, from_start: bool, filters: Sequence[str], job_id: str | None
    ) -> AsyncIterator[Item]:
        """Events after `cursor`; without it, all retained events if `from_start`, else new events only. Pings when idle.

        Raises `Retry` before the first item while Kafka does not answer, and nothing after it.
        """
        which = Wanted(tenant, filters, job_id)
        with self.feed.subscribe(tenant) as live:
            self._live.add(live)
            try:
                await _ready(live)
                seen = self.parse(cursor) if cursor else {} if from_start else dict(live.start)
                async for item in self._items(which, seen, live, past=bool(cursor) or from_start):
                    yield item
            finally:
                self._live.discard(live)

    async def _items(self, which: Wanted, position: Position, live: Subscriber, past: bool) -> AsyncIterator[Item]:
        """`past`: events before the feed's are read first."""
        yield Item(_cursor(position), "hello", "{}")
        while not self.stopping.is_set():
            if past or live.overflowed:
                if live.overflowed:
                    live.restart()
                found = await self._page(which, position, live.start)
                if not found and _is_behind(position, live.start):
                    await self._pause(AGAIN_S)
                past = _is_behind(position, live.start)
            else:
                found = self._new(which, position, await live.take(PING_S), live)
            if not found:
                yield Item(None, "ping", None)
            for item in found:
                yield item

    def _new(self, which: Wanted, position: Position, entries: Sequence[Entry], live: Subscriber) -> list[Item]:
        """Items of new events. Those that were read as history already are dropped."""
        found: list[Item] = []
        for entry in entries:
            if entry.offset > position.get(entry.partition, -1):
                position[entry.partition] = entry.offset
                if which.fits(entry.message):
                    found.append(Item(_cursor(position), name_of(entry.message), entry.text))
        if not live.overflowed:
            # Records of other tenants lie between: a cursor that is behind them would have them read again.
            for partition, offset in self.feed.position.items():
                position[partition] = max(offset, position.get(partition, -1))
        return found

    async def _page(self, which: Wanted, position: Position, until: Position) -> list[Item]:
        """Items after `position`, up to `until` at least unless the page is full. The first is a `resync` if some are lost.

        What Kafka does not give now is left for the next page.
        """
        found: list[Item] = []
        try:
            async with self._history, _consumer(self.feed) as consumer:
                await self._fill(found, consumer, which, position, until)
        except KafkaError as error:
            log.warning("history will be read again", extra={"reason": repr(error)})
        return found

    async def _fill(self, found: list[Item], consumer: Any, which: Wanted, position: Position, until: Position) -> None:
        reason = await _seek(consumer, position)
        if reason is not None:
            found.append(Item(_cursor(position), "resync", json.dumps({"reason": reason})))
        ends = time.monotonic() + PAGE_S
        while _is_behind(position, until) and len(found) < PAGE_EVENTS and time.monotonic() < ends and not self.stopping.is_set():
            for partition, records in (await consumer.getmany(timeout_ms=500, max_records=500)).items():
                await self.feed.seals.open_records(records)
                for record in records:
                    position[partition] = record.offset
                    if dict(record.headers).get("ce_tenant", which.tenant.encode()) != which.tenant.encode():
                        continue
                    message = decode(record, self.feed.allowed)
                    if message is not None and which.fits(message):
                        found.append(Item(_cursor(position), name_of(message), typed_body(message).decode()))

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), seconds)


async def _ready(live: Subscriber) -> None:
    try:
        await live.ready(READY_S)
    except TimeoutError:
        raise Retry("kafka_unavailable", f"Kafka did not answer a new stream within {READY_S:.0f} s") from None


@contextlib.asynccontextmanager
async def _consumer(feed: EventFeed) -> AsyncIterator[Any]:
    consumer = AIOKafkaConsumer(
        *feed.allowed, **feed.kafka.options, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(consumer.stop())


async def _seek(consumer: Any, position: Position) -> str | None:
    """Go to `position`, and to the first record where it names none. Returns why the client may have missed events, or None.

    Where the position is past the end, the topic is another one than that of the cursor: the stream goes on with what comes next.
    """
    partitions = list(consumer.assignment())
    first = await consumer.beginning_offsets(partitions)
    end = await consumer.end_offsets(partitions)
    reason: str | None = None
    for unknown in position.keys() - set(partitions):
        del position[unknown]
        reason = PAST_END
    for partition in partitions:
        start = first[partition]
        if position.get(partition, -1) >= 0:
            start = position[partition] + 1
            reason = PAST_END if start > end[partition] else reason or (NOT_KEPT if start < first[partition] else None)
            start = max(first[partition], min(start, end[partition]))
        consumer.seek(partition, start)
        position[partition] = start - 1
    return reason


def _is_behind(position: Position, until: Position) -> bool:
    return any(position.get(partition, -1) < offset for partition, offset in until.items())


def _cursor(position: Position) -> str | None:
    # A partition that has not been read is left out; resuming starts it at its beginning.
    return ",".join(f"{tp.topic[0]}{tp.partition}:{o}" for tp, o in sorted(position.items()) if o >= 0) or None
