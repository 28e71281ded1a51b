"""The relay: outbox rows to Kafka in the order of their decision, facts before the commands that follow from them.

With a database of our own, rows are published from memory right after their transaction and deleted with the next one, so a
batch costs one fsync. Rows that a crash or an outage left behind are read from the table and published first (same ids:
receivers drop repeats). Where replicas share the database, `shared/processing/outbox_shared.py` takes the place of the memory.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter as Tally
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.errors import InvalidProducerEpoch, KafkaError, OutOfOrderSequenceNumber, ProducerFenced, UnknownProducerId
from sqlalchemy import Connection, select

from shared.database.statements import Statement
from shared.database.store import OUTBOX_BATCH, Store
from shared.errors import Retry
from shared.kafka.outgoing import Outgoing
from shared.kafka.producer_batches import ProducerBatches
from shared.processing.outbox_codec import insert_batch, unpack
from shared.telemetry.tracing import Telemetry

T = TypeVar("T")
PUBLISH_TIMEOUT_S = 60.0
_SEQUENCE = (OutOfOrderSequenceNumber, UnknownProducerId, InvalidProducerEpoch, ProducerFenced)
"""What a broker says to a producer that numbers its batches otherwise than the broker counts them."""
_DROP = Statement("DELETE FROM outbox_batch WHERE shard = :shard AND id <= :upto")


class Relay:
    """One per process and database. `write` runs in one transaction after the other, `after` once for each of them in their order; the
    next `write` may run beside it."""

    def __init__(self, producer: AIOKafkaProducer, telemetry: Telemetry, shard: str) -> None:
        self.batches = ProducerBatches(producer)
        self.telemetry = telemetry
        self.shard = shard
        self.left_behind = True
        """Rows of an earlier life or a failed publish may lie in the table; they must go first."""
        self.broken: KafkaError | None = None
        """Why this producer will never send again. aiokafka numbers a batch before it is sent: one that the broker refused for good leaves a gap,
        and all that follow it in its partition are refused too. Only a new producer is counted anew."""
        self._published: int | None = None
        self._dropped: int | None = None

    async def transact(self, store: Store, work: Callable[[Connection], T]) -> T:
        """Run a transaction, of which `write` is the last act."""
        return await store.transact(work)

    def write_rows(self, connection: Connection, rows: list[Outgoing], now: float) -> Any:
        """In the batch's transaction: drop what is published, add what is decided. Returns what `after` must be told."""
        self._dropped = self._published
        if self._dropped is not None:
            _DROP.rows(connection, {"shard": self.shard, "upto": self._dropped})
        if not rows:
            return None
        rows.sort(key=lambda row: not row.urgent)
        return insert_batch(connection, self.shard, rows, now)

    async def publish_left_behind(self, store: Store) -> None:
        """Before a transaction, while nothing is being published: what an earlier life or a failed publish left behind goes first.
        Raises `Retry`."""
        while self.left_behind:
            found = await store.read(lambda c: left_behind(c, self.shard))
            if found is None:
                self.left_behind, self._published = False, None
                return
            rows, last = found
            await self.send_in_order(rows)
            await store.transact(lambda c, upto=last: _DROP.run(c, {"shard": self.shard, "upto": upto}) and None)  # type: ignore[misc]

    async def publish_rows(self, store: Store, rows: Sequence[Outgoing], written: Any) -> None:
        """After a transaction: returns when Kafka has all `rows`, of which `write` said `written`. Raises `Retry`; then they stay."""
        if self.left_behind:
            raise Retry("kafka_unavailable", "what was decided before is not published yet")
        try:
            await self.send_in_order(rows)
        except BaseException:
            self.left_behind = True
            raise
        if written is not None:
            self._published = written

    def mark_committed(self) -> None:
        """The transaction of the last `write` is durable. What was published beside it is dropped with the next."""
        if self._published == self._dropped:
            self._published = None

    @property
    def work_left(self) -> bool:
        """True while the table holds rows of ours, published or not."""
        return self._published is not None or self.left_behind

    def sweep(self) -> None:
        """Called every few seconds; nobody but us writes to our shard, so there is nothing to look for."""

    async def send_in_order(self, rows: Sequence[Outgoing]) -> None:
        """Facts, then the commands that follow from them, on their way together: what is on its way lies in the outbox until Kafka
        has all of it, and no later decision is published before. Waiting for the facts first cost a round trip per stage."""
        await self.send_records(sorted(rows, key=lambda row: not row.urgent))

    async def send_records(self, rows: Sequence[Outgoing]) -> None:
        """Send without the table (also used by services that keep none). Raises `Retry` after a bounded wait."""
        if not rows:
            return
        topics = Tally(row.topic for row in rows)
        started = time.monotonic()
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT_S):
                destination = next(iter(topics)) if len(topics) == 1 else "(several)"
                traces = [row.traceparent for row in rows] if self.telemetry.enabled else []
                with self.telemetry.batch_span("send", "send", destination, traces):
                    # Enqueued one after the other: per partition, this order is the order in the log.
                    await asyncio.gather(*await self.batches.enqueue(rows))
        except (TimeoutError, KafkaError) as error:
            # A bare KafkaError: aiokafka's task that sends has ended.
            if isinstance(error, _SEQUENCE) or type(error) is KafkaError:
                self.broken = error
            raise Retry("kafka_unavailable", f"publish failed: {error!r}") from error
        self.telemetry.record("messaging.client.operation.duration", time.monotonic() - started,
                              **{"messaging.operation.name": "send", "messaging.system": "kafka"})  # fmt: skip
        for topic, n in topics.items():
            self.telemetry.count("messaging.client.sent.messages", n, **{"messaging.destination.name": topic})


def left_behind(connection: Connection, shard: str) -> tuple[list[Outgoing], int] | None:
    """The oldest row of a shard: its records and its id. None when the shard holds nothing."""
    batch = connection.execute(
        select(OUTBOX_BATCH).where(OUTBOX_BATCH.c.shard == shard).order_by(OUTBOX_BATCH.c.id).limit(1)
    ).first()
    return (unpack(batch.body), batch.id) if batch else None
