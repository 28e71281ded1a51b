"""A batch subscription: decode each record, process the batch in one transaction, publish, then commit explicit offsets.

FastStream declares and connects the subscription. Reading, acknowledging and rewinding are done here, because none of its
acknowledgement policies keeps a record whose handler failed.
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

from contracts import SealedRecord, Topic, UndecodableRecord, from_record
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
OUTAGE_S = 120.0
"""How long a failed try counts as an outage: longer than the next one takes."""
HEARTBEAT_MS = 1000
"""How soon a member learns of a rebalance."""
MAX_INPUT_BYTES = 917_504
"""A larger record is dead-lettered: the messages that follow from it repeat parts of it, and must fit into a record too."""


class RebalanceGate(ConsumerRebalanceListener):  # type: ignore[misc]
    """Delays a rebalance until the batch in hand is published and committed, so that its records are not redelivered."""

    def __init__(self) -> None:
        self.idle = asyncio.Event()
        self.idle.set()
        self.joined = False
        """The consumer is a member of its group and has its partitions, which may be none."""
        self.closed = False
        """A rebalance is in progress. Records not yet started will be redelivered to the partition's new owner."""
        self.drop: Callable[[Any], None] = lambda partitions: None
        """Discards the queued records of partitions."""
        self.settled: Callable[[], Awaitable[None]] = self.idle.wait  # type: ignore[assignment]
        """Returns when no batch is in hand and its offsets are committed."""

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """Wait for the batch in hand, at most `REVOKE_WAIT_S`; discard what is queued."""
        self.joined, self.closed = False, True
        try:
            await asyncio.wait_for(self.settled(), REVOKE_WAIT_S)
        except TimeoutError:
            log.warning("partitions were revoked while a batch was in hand")
        finally:
            self.drop(revoked)

    async def on_partitions_assigned(self, assigned: Any) -> None:
        """Allow batches again."""
        self.joined, self.closed = True, False


def decode(
    records: Sequence[ConsumerRecord[Any, Any]], allowed: dict[str, frozenset[str]]
) -> tuple[list[Inbound], list[Undecodable]]:
    """Split records into messages and undecodable records; never raises. `allowed` holds the message types of each topic."""
    good: list[Inbound] = []
    bad: list[Undecodable] = []
    for r in records:
        if r.value is not None and len(r.value) > MAX_INPUT_BYTES:
            bad.append(Undecodable(r, "too_large", f"the record has {len(r.value)} bytes; the limit is {MAX_INPUT_BYTES}"))
            continue
        try:
            message = from_record(r.value, r.headers, allowed[r.topic])
            item = Inbound(
                message, r.topic, r.partition, r.offset, r.timestamp / 1000, r.key, r.value, r.headers, _trace(r.headers)
            )
        except SealedRecord:
            continue  # its job is erased
        except UndecodableRecord as error:
            bad.append(Undecodable(r, error.code, str(error)))
        except Exception as error:  # noqa: BLE001 - hostile bytes may raise anything; they stop one record, not its partition
            bad.append(Undecodable(r, "invalid_data", f"{type(error).__name__}: {error}"))
        else:
            good.append(item)
    return good, bad


def _trace(headers: Sequence[tuple[str, bytes | None]]) -> str | None:
    for name, value in headers:
        if name == "traceparent" and value:
            return clean_traceparent(value.decode("ascii", "replace"))
    return None


class _Every(dict[str, frozenset[str]]):
    """The same message types for every topic."""

    def __init__(self, types: frozenset[str]) -> None:
        super().__init__()
        self.types = types

    def __missing__(self, topic: str) -> frozenset[str]:
        return self.types


class Subscription:
    """One consumer group of a service over `topics`, processed in batches by `handler`.

    With a `pattern`, a regular expression, it reads all topics of such a name, also those made later; `topics` has one row like them.
    """

    def __init__(
        self, processor: BatchProcessor, topics: Sequence[Topic], group: str, handler: Handler, inbox: Inbox = DedupPolicy.BY_ID,
        pattern: str | None = None,
    ) -> None:  # fmt: skip
        self.pattern = pattern
        self.processor = processor
        self.inbox = inbox
        self.topics = topics
        self.group = group
        self.handler = handler
        self.allowed = {t.name: t.types for t in topics} if pattern is None else _Every(topics[0].types)
        self.compacted = frozenset(t.name for t in topics if t.cleanup == "compact")
        self.gate = RebalanceGate()
        self.select_relevant: Callable[[Sequence[Any]], Awaitable[Sequence[Any]]] | None = None
        """Selects the records of a batch that concern this service, before they are decoded; None selects all."""
        self.failures = 0
        self._failed_at = float("-inf")
        self.on_fatal: Callable[[Stop], None] = lambda error: None
        self.commits = OffsetCommits(lambda: self.consumer, processor.telemetry, group, self._committed)
        self._finishing: asyncio.Task[None] | None = None
        self._gave_up = False
        self.reader = RecordReader(lambda: self.consumer, self.on_batch, group)
        # A batch that is tried again, for as long as Kafka or the database is away, is not stuck.
        self.reader.may_wait = lambda: time.monotonic() - self._failed_at < OUTAGE_S
        self.gate.drop = self.reader.drop
        self.gate.settled = self._settled
        self._stopping = False
        self._subscriber: Any = None

    def declare(self, broker: KafkaBroker, instance: str | None = None, session_ms: int = 6000) -> None:
        """Declare the subscription on `broker`, which connects it when it starts; run `reader` after that.

        `instance` is the group instance id of a static member (KIP-345); `session_ms` is its session timeout.
        """
        self._subscriber = broker.subscriber(
            *(t.name for t in self.topics if self.pattern is None), pattern=self.pattern, group_id=self.group, group_instance_id=instance, ack_policy=AckPolicy.MANUAL,
            auto_offset_reset="earliest", listener=self.gate, include_in_schema=False, rebalance_timeout_ms=30_000,
            session_timeout_ms=session_ms, heartbeat_interval_ms=HEARTBEAT_MS, fetch_max_wait_ms=2000, consumer_timeout_ms=60_000,
        )  # fmt: skip

    async def stop(self) -> None:
        """Start no further batch; return when the one in hand is published and committed."""
        self._stopping = True
        await self._settled()

    @property
    def consumer(self) -> Any:
        """The aiokafka consumer, or None before the broker has started."""
        return self._subscriber.consumer if self._subscriber else None

    async def on_batch(self, records: Sequence[ConsumerRecord[Any, Any]]) -> None:
        """Process one batch. It is published and committed while the next batch is processed.

        `Retry` backs off and rewinds the batch. `Stop` and every other exception end the process without committing.
        """
        if self.gate.closed or self._stopping:
            return
        self.gate.idle.clear()
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
            self.gate.idle.set()

    async def _give_up(self, error: Stop) -> None:
        # Never returns, so that no later batch is processed while the process ends.
        self._gave_up = True
        self.on_fatal(error)
        await asyncio.Event().wait()

    async def _decide(self, records: Sequence[ConsumerRecord[Any, Any]]) -> None:
        started = time.monotonic()
        # A tombstone of a compacted topic has no effect: its key was deleted here when the writer deleted it.
        relevant: Sequence[Any] = [r for r in records if r.value is not None or r.topic not in self.compacted]
        if self.select_relevant is not None:
            relevant = await self.select_relevant(relevant)
        good, bad = decode(relevant, self.allowed)
        if sealed := len(relevant) - len(good) - len(bad):
            log.info("sealed records of erased jobs were skipped", extra={"group": self.group, "count": sealed})
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
        """Wait until a processed batch is published, then let its offsets be committed."""
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
                # The batch is not processed again: its outputs are in the outbox, and leave before those of any later batch.
                await self._back_off(error)
                published = self.processor.run_unit(lambda unit: None)
            else:
                self.failures = 0
                return

    async def _settled(self) -> None:
        """Return when no batch is in hand and the offsets of the last one are committed."""
        if self._gave_up:
            return
        await self.gate.idle.wait()
        if self._finishing is not None:
            # The caller waits only so long. The batch is published and committed all the same, and the next one waits for that.
            await asyncio.shield(self._finishing)
        await self.commits.flush()

    def _committed(self) -> None:
        crashpoints.reach(self.processor.service, "after_settle")

    async def _back_off(self, error: Retry) -> None:
        self.failures += 1
        self._failed_at = time.monotonic()
        delay = backoff(self.failures)
        log.warning("batch will be retried", extra={"code": error.code, "reason": str(error), "retry_in_s": round(delay, 2)})
        await asyncio.sleep(delay)


async def _nothing() -> None:
    """Publishing of a batch that has no outputs."""


def _end_spans(batch: Sequence[Inbound]) -> None:
    for item in batch:
        if item.span is not None:
            item.span.end()


def leave_group(consumer: Any) -> None:
    """Let a static member leave its group when it stops on purpose, so that others take over its partitions at once.

    KIP-345 would keep it in the group until its session ends.
    """
    coordinator = getattr(consumer, "_coordinator", None)
    if coordinator is not None:
        coordinator._group_instance_id = None


def start_process_spans(telemetry: Telemetry, batch: Sequence[Inbound], group: str) -> None:
    """Open the `process` span of each message in `batch`, if spans are recorded."""
    if not telemetry.enabled:
        return
    wall = time.time()
    for item in batch:
        where = {"messaging.destination.partition.id": str(item.partition), "messaging.kafka.offset": item.offset}
        item.span = telemetry.start_process_span(
            item.topic, group, item.message, item.traceparent, wall - item.timestamp, where
        )  # fmt: skip
