"""A batch subscription: decode each record ourselves, settle the batch, commit explicit offsets.

The pattern of reference/kafka-runtime.md §5. FastStream declares and runs the subscription; acknowledging is ours alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiokafka import ConsumerRebalanceListener, ConsumerRecord
from faststream import AckPolicy
from faststream.kafka import KafkaBroker

from contracts import Topic, UndecodableRecord, from_record
from shared import crashpoints
from shared.backoff import backoff
from shared.errors import Retry, Stop
from shared.kafka.offset_commits import OffsetCommits, next_offsets, rewind
from shared.kafka.record_reader import RecordReader
from shared.processing.inbox import DedupPolicy, Inbox
from shared.processing.processor import BatchProcessor, Handler
from shared.processing.records import Inbound, Undecodable
from shared.telemetry.trace_context import clean_traceparent
from shared.telemetry.tracing import Telemetry

log = logging.getLogger(__name__)
REVOKE_WAIT_S = 8.0
MAX_INPUT_BYTES = 917_504
"""Larger records are parked: what follows from a message repeats parts of it, and must fit into a record too."""


class RebalanceGate(ConsumerRebalanceListener):  # type: ignore[misc]
    """Holds a rebalance until what is in hand is settled: then nothing in flight is delivered twice."""

    def __init__(self) -> None:
        self.idle = asyncio.Event()
        self.idle.set()
        self.joined = False
        """Member of the group with its share of the partitions, which for one of many members may be none."""
        self.closed = False
        """The group is shared out anew: what is not begun comes again, to whoever has its partition then."""
        self.forget: Callable[[Any], None] = lambda partitions: None
        self.settled: Callable[[], Awaitable[None]] = self.idle.wait  # type: ignore[assignment]

    async def on_partitions_revoked(self, revoked: Any) -> None:
        self.joined, self.closed = False, True
        try:
            await asyncio.wait_for(self.settled(), REVOKE_WAIT_S)
        except TimeoutError:
            log.warning("a batch was still in hand when its partitions were taken away")
        self.forget(revoked)

    async def on_partitions_assigned(self, assigned: Any) -> None:
        self.joined, self.closed = True, False


def decode(
    records: Sequence[ConsumerRecord[Any, Any]], allowed: dict[str, frozenset[str]]
) -> tuple[list[Inbound], list[Undecodable]]:
    """Split a batch into messages and undecodable records; never raises."""
    good: list[Inbound] = []
    bad: list[Undecodable] = []
    for r in records:
        if r.value is not None and len(r.value) > MAX_INPUT_BYTES:
            bad.append(Undecodable(r, "too_large", f"the record has {len(r.value)} bytes; the limit is {MAX_INPUT_BYTES}"))
            continue
        try:
            message = from_record(r.value, r.headers, allowed[r.topic])
        except UndecodableRecord as error:
            bad.append(Undecodable(r, error.code, str(error)))
            continue
        except Exception as error:  # noqa: BLE001 - whatever hostile bytes provoke, the record is parked, not the partition
            bad.append(Undecodable(r, "invalid_data", f"{type(error).__name__}: {error}"))
            continue
        good.append(
            Inbound(
                message, r.topic, r.partition, r.offset, r.timestamp / 1000, r.key, r.value, r.headers, _trace(r.headers),
            )
        )  # fmt: skip
    return good, bad


def _trace(headers: Sequence[tuple[str, bytes | None]]) -> str | None:
    for name, value in headers:
        if name == "traceparent" and value:
            return clean_traceparent(value.decode("ascii", "replace"))
    return None


HEARTBEAT_MS = 1000
"""How soon a process learns that the group is shared out anew."""


class Subscription:
    """One consumer group of a service over some topics, handled in batches by one `Handler`."""

    def __init__(
        self, processor: BatchProcessor, topics: Sequence[Topic], group: str, handler: Handler, inbox: Inbox = DedupPolicy.BY_ID
    ) -> None:
        self.processor = processor
        self.inbox = inbox
        self.topics = topics
        self.group = group
        self.handler = handler
        self.allowed = {t.name: frozenset(m.TYPE for m in t.models) for t in topics}
        self.compacted = frozenset(t.name for t in topics if t.cleanup == "compact")
        self.gate = RebalanceGate()
        self.select_relevant: Callable[[Sequence[Any]], Awaitable[Sequence[Any]]] | None = None
        """Which records of a batch concern this service, told before they are decoded; all of them, when it is not set."""
        self.failures = 0
        self.busy_since: float | None = None
        self.on_fatal: Callable[[Stop], None] = lambda error: None
        self.commits = OffsetCommits(lambda: self.consumer, processor.telemetry, group, self._committed)
        self._finishing: asyncio.Task[None] | None = None
        self._gave_up = False
        self.reader = RecordReader(lambda: self.consumer, self.on_batch, group)
        self.gate.forget = self.reader.drop
        self.gate.settled = self._settled
        self._stopping = False
        self._subscriber: Any = None

    def declare(self, broker: KafkaBroker, instance: str | None = None, session_ms: int = 6000) -> None:
        """Declare the subscription on `broker`, which connects it; then `reader` can run. `instance` names a static member."""
        self._subscriber = broker.subscriber(
            *(t.name for t in self.topics), group_id=self.group, group_instance_id=instance, ack_policy=AckPolicy.MANUAL,
            auto_offset_reset="earliest", listener=self.gate, include_in_schema=False, rebalance_timeout_ms=30_000,
            session_timeout_ms=session_ms, heartbeat_interval_ms=HEARTBEAT_MS, fetch_max_wait_ms=2000, consumer_timeout_ms=60_000,
        )  # fmt: skip

    async def stop(self) -> None:
        """Begin no further batch; return when the one in hand is published and committed."""
        self._stopping = True
        await self._settled()

    @property
    def consumer(self) -> Any:
        """The running aiokafka consumer, or None."""
        return self._subscriber.consumer if self._subscriber else None

    async def on_batch(self, records: Sequence[ConsumerRecord[Any, Any]]) -> None:
        """Decide one batch, and leave it to be published and committed while the next is decided. On `Retry` back off and rewind,
        on `Stop` end the process."""
        if self.gate.closed or self._stopping:
            return
        self.gate.idle.clear()
        self.busy_since = time.monotonic()
        try:
            await self._decide(records)
            self.failures = 0
        except Retry as error:
            await self._back_off(error)
            self.reader.drop(rewind(self.consumer, records))
        except Stop as error:
            await self._give_up(error)
        except Exception as error:
            log.exception("batch failed", extra={"group": self.group})
            await self._give_up(Stop("handler_failed", f"{type(error).__name__}: {error}"))
        finally:
            self.busy_since = None
            self.gate.idle.set()

    async def _give_up(self, error: Stop) -> None:
        # Never returns: FastStream would go on with the next batch. The process ends, the offset stays.
        self._gave_up = True
        self.on_fatal(error)
        await asyncio.Event().wait()

    async def _decide(self, records: Sequence[ConsumerRecord[Any, Any]]) -> None:
        started = time.monotonic()
        # A tombstone of a compacted topic says nothing to anybody: whoever knew the key has forgotten it himself.
        told: Sequence[Any] = [r for r in records if r.value is not None or r.topic not in self.compacted]
        if self.select_relevant is not None:
            told = await self.select_relevant(told)
        good, bad = decode(told, self.allowed)
        start_process_spans(self.processor.telemetry, good, self.group)
        try:
            published = (
                await self.processor.decide_batch(self.handler, good, bad, self.group, self.inbox) if good or bad else _nothing()
            )
            if self._finishing is not None:
                await self._finishing
        except BaseException:
            _end_spans(good)
            raise
        self._finishing = asyncio.create_task(self._finish(published, records, good, started))

    async def _finish(self, published: Awaitable[None], records: Sequence[Any], good: Sequence[Inbound], started: float) -> None:
        """What is decided is durable; once it is published too, the offsets may be committed."""
        telemetry = self.processor.telemetry
        try:
            await self._until_published(published)
        except Stop as error:
            await self._give_up(error)
        except Exception as error:
            log.exception("publishing failed", extra={"group": self.group})
            await self._give_up(Stop("publish_failed", f"{type(error).__name__}: {error}"))
        finally:
            _end_spans(good)
        telemetry.record("messaging.process.duration", time.monotonic() - started, group=self.group)
        telemetry.record("pipeline.batch.records", len(records), group=self.group)
        telemetry.count("messaging.client.consumed.messages", len(records), group=self.group)
        crashpoints.reach(self.processor.service, "before_settle")
        self.commits.mark_done(next_offsets(records))

    async def _until_published(self, published: Awaitable[None]) -> None:
        while True:
            try:
                await published
            except Retry as error:
                # Not decided anew: what was decided lies in the outbox, and leaves before anything that is decided later.
                await self._back_off(error)
                published = self.processor.run_unit(lambda unit: None)
            else:
                self.failures = 0
                return

    async def _settled(self) -> None:
        """Returns when nothing is in hand any more, and the group knows."""
        if self._gave_up:
            return
        await self.gate.idle.wait()
        if self._finishing is not None:
            await self._finishing
        await self.commits.flush()

    def _committed(self) -> None:
        crashpoints.reach(self.processor.service, "after_settle")

    async def _back_off(self, error: Retry) -> None:
        self.failures += 1
        delay = backoff(self.failures)
        log.warning("batch will be repeated", extra={"code": error.code, "reason": str(error), "retry_in_s": round(delay, 2)})
        await asyncio.sleep(delay)


async def _nothing() -> None:
    """What follows from records that concern nobody."""


def _end_spans(batch: Sequence[Inbound]) -> None:
    for item in batch:
        if item.span is not None:
            item.span.end()


def leave_group(consumer: Any) -> None:
    """Let a static member leave the group when it stops (KIP-345 keeps it until its session ends): who stops on purpose is about to start
    again, but its partitions would do nothing meanwhile, and others have room for them."""
    coordinator = getattr(consumer, "_coordinator", None)
    if coordinator is not None:
        coordinator._group_instance_id = None


def start_process_spans(telemetry: Telemetry, batch: Sequence[Inbound], group: str) -> None:
    """Open the `process` span of each record, when spans are recorded at all."""
    if not telemetry.enabled:
        return
    wall = time.time()
    for item in batch:
        where = {"messaging.destination.partition.id": str(item.partition), "messaging.kafka.offset": item.offset}
        item.span = telemetry.start_process_span(
            item.topic, group, item.message, item.traceparent, wall - item.timestamp, where
        )  # fmt: skip
