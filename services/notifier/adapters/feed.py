"""The one Kafka reader of this process for all event streams and sockets.

Each record is read and decoded once and handed to the subscribers of its tenant. A subscriber that does not keep up loses its
queue, never the others' time: it reads what it missed as history (`stream.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from contracts import Message, Topic
from contracts.event_names import typed_body
from shared.kafka.connection import KafkaAccess
from shared.processing.subscription import decode as decode_records
from stageline_kit.record_seals import RecordSeals

log = logging.getLogger(__name__)
MOST_QUEUED = 1000
"""Events that wait for one subscriber at most."""
LINGER_S = 30.0
"""How long the reader goes on after the last subscriber, because starting it again takes time."""
POLL_MS = 1000
ASK_AGAIN_S = 0.5


@dataclass(frozen=True)
class Entry:
    """One event and its place in the topics."""

    partition: TopicPartition
    offset: int
    message: Message

    @cached_property
    def text(self) -> str:
        """The event as JSON, with its `type`. Made once for all streams."""
        return typed_body(self.message).decode()


class Subscriber:
    """The events of the tenants that it follows, from now on."""

    def __init__(self, feed: EventFeed) -> None:
        self.feed = feed
        self.start: dict[TopicPartition, int] = {}
        """Partition → last offset before the first event that `take` returns."""
        self.overflowed = False
        """More than `MOST_QUEUED` events waited, and were dropped. `restart` ends this."""
        self._entries: deque[Entry] = deque()
        self._arrived = asyncio.Event()

    def follow(self, tenant: str) -> None:
        """Receive the events of `tenant` too."""
        self.feed.add(tenant, self)

    def unfollow(self, tenant: str) -> None:
        """Receive no more events of `tenant`."""
        self.feed.remove(tenant, self)

    async def ready(self, timeout_s: float) -> None:
        """Return when Kafka answers and every later event will be received. Raises `TimeoutError` while it does not."""
        async with asyncio.timeout(timeout_s):
            await self.feed.reading.wait()
            while not await self.feed.answers():
                await asyncio.sleep(ASK_AGAIN_S)
                await self.feed.reading.wait()
        self.restart()

    def restart(self) -> None:
        """Drop what waits; receive events from the feed's present position."""
        self._entries.clear()
        self.overflowed = False
        self.start = dict(self.feed.position)

    def put(self, entry: Entry) -> None:
        """Queue an event."""
        if len(self._entries) >= MOST_QUEUED:
            self.overflowed = True
            self._entries.clear()
        if not self.overflowed:
            self._entries.append(entry)
        self._arrived.set()

    async def take(self, timeout_s: float | None = None) -> list[Entry]:
        """The events that wait, or the next ones. Empty after `timeout_s`, after `wake` and after an overflow."""
        if not self._entries and not self.overflowed:
            self._arrived.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), timeout_s)
        taken = list(self._entries)
        self._entries.clear()
        return taken

    def wake(self) -> None:
        """End a `take` that waits."""
        self._arrived.set()


class EventFeed:
    """Reads `topics` while somebody follows a tenant, from the end of the topics at the first one's arrival."""

    def __init__(self, kafka: KafkaAccess, topics: Sequence[Topic], seals: RecordSeals) -> None:
        self.kafka = kafka
        self.seals = seals
        self.allowed = {t.name: frozenset(m.TYPE for m in t.models) for t in topics}
        self.position: dict[TopicPartition, int] = {}
        """Partition → last offset that was handed out."""
        self.reading = asyncio.Event()
        """Set while the reader is in position."""
        self._consumer: Any = None
        """Of the reader, while it is in position."""
        self._followers: dict[str, set[Subscriber]] = {}
        self._wanted = asyncio.Event()
        self._idle_since = 0.0

    @contextlib.contextmanager
    def subscribe(self, *tenants: str) -> Iterator[Subscriber]:
        """A subscriber that follows `tenants` during a `with` block."""
        subscriber = Subscriber(self)
        for tenant in tenants:
            subscriber.follow(tenant)
        try:
            yield subscriber
        finally:
            for tenant in [t for t, followers in self._followers.items() if subscriber in followers]:
                subscriber.unfollow(tenant)

    def add(self, tenant: str, subscriber: Subscriber) -> None:
        """Hand events of `tenant` to `subscriber`."""
        self._followers.setdefault(tenant, set()).add(subscriber)
        self._wanted.set()

    def remove(self, tenant: str, subscriber: Subscriber) -> None:
        """Hand no more events of `tenant` to `subscriber`."""
        followers = self._followers.get(tenant, set())
        followers.discard(subscriber)
        if not followers:
            self._followers.pop(tenant, None)
        self._idle_since = time.monotonic()

    async def answers(self) -> bool:
        """True when Kafka answers the reader. A poll does not tell: while a broker is away it only finds no events."""
        try:
            await self._consumer.end_offsets(list(self.position)[:1])
        except KafkaError:
            return False
        return True

    async def run(self) -> None:
        """Read until cancelled, while there are followers."""
        while True:
            await self._wanted.wait()
            consumer = AIOKafkaConsumer(
                *self.allowed, **self.kafka.options, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest",
                fetch_max_wait_ms=500,
            )  # fmt: skip
            try:
                await consumer.start()
                await self._seek(consumer)
                self._consumer = consumer
                self.reading.set()
                await self._read(consumer)
                self.position.clear()
            except KafkaError as error:
                # The position is kept: the next reader goes on after it.
                log.warning("events will be read again", extra={"reason": str(error)})
                await asyncio.sleep(1)
            finally:
                self.reading.clear()
                await consumer.stop()

    async def _seek(self, consumer: Any) -> None:
        # Without a group, a subscription is an assignment of every partition.
        ends: Mapping[TopicPartition, int] = await consumer.end_offsets(list(consumer.assignment()))
        for partition, end in ends.items():
            last = min(self.position.get(partition, end - 1), end - 1)
            consumer.seek(partition, last + 1)
            self.position[partition] = last

    async def _read(self, consumer: Any) -> None:
        while self._followers or time.monotonic() - self._idle_since < LINGER_S:
            batch = await consumer.getmany(timeout_ms=POLL_MS, max_records=500)
            for found in batch.values():
                await self.seals.open_records(found)
            # No await below: subscribers see the position and the events of a whole batch.
            for partition, records in batch.items():
                for record in records:
                    self._hand_out(partition, record)
                self.position[partition] = records[-1].offset
        self._wanted.clear()

    def _hand_out(self, partition: TopicPartition, record: Any) -> None:
        tenant = dict(record.headers).get("ce_tenant")
        if tenant is not None and tenant.decode("utf-8", "replace") not in self._followers:
            return
        message = decode(record, self.allowed)
        if message is None:
            return
        entry = Entry(partition, record.offset, message)
        for subscriber in self._followers.get(message.tenant, ()):
            subscriber.put(entry)


def decode(record: Any, allowed: dict[str, frozenset[str]]) -> Message | None:
    """The message of a record; None when it cannot be decoded. `allowed` holds the message types of each topic."""
    good, _ = decode_records([record], allowed)
    return good[0].message if good else None
