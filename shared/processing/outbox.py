"""The relay publishes outbox rows to Kafka in the order of their transactions, facts before the commands that follow from them.

A process with a database of its own publishes from memory after each transaction, and deletes the row with the next
transaction, so a batch costs one fsync. Rows left by a crash or an outage are read from the table and published first, under the
same ids, so receivers drop duplicates. Replicas that share a database use `shared/processing/outbox_shared.py`.
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
"""Errors that mean the producer's sequence numbers no longer match the broker's."""
_DROP = Statement("DELETE FROM outbox_batch WHERE shard = :shard AND id <= :upto")


class Relay:
    """Writes and publishes outbox rows. One per process and database.

    `write_rows` runs in each transaction, one after the other. `publish_rows` runs once after each, in the same order; the next
    `write_rows` may run at the same time.
    """

    def __init__(self, producer: AIOKafkaProducer, telemetry: Telemetry, shard: str) -> None:
        self.batches = ProducerBatches(producer)
        self.telemetry = telemetry
        self.shard = shard
        self.left_behind = True
        """True while the table may hold rows of an earlier process or of a failed publish; they must be published first."""
        self.broken: KafkaError | None = None
        """Why this producer can never send again; None while it can. aiokafka numbers a batch before it sends it. A batch that the
        broker refuses for good leaves a gap, and the broker refuses all later batches of the partition. Only a new producer helps."""
        self._published: int | None = None
        self._dropped: int | None = None

    async def transact(self, store: Store, work: Callable[[Connection], T]) -> T:
        """Run a transaction whose last act is `write_rows`; returns the result of `work`."""
        return await store.transact(work)

    def write_rows(self, connection: Connection, rows: list[Outgoing], now: float) -> Any:
        """Delete published rows and insert `rows`, within the batch's transaction. Returns the argument `written` of `publish_rows`."""
        self._dropped = self._published
        if self._dropped is not None:
            _DROP.rows(connection, {"shard": self.shard, "upto": self._dropped})
        if not rows:
            return None
        rows.sort(key=lambda row: not row.urgent)
        return insert_batch(connection, self.shard, rows, now)

    async def publish_left_behind(self, store: Store) -> None:
        """Publish and delete rows of an earlier process or a failed publish. Called before a transaction, while nothing is being
        published. Raises `Retry`."""
        while self.left_behind:
            found = await store.read(lambda c: left_behind(c, self.shard))
            if found is None:
                self.left_behind, self._published = False, None
                return
            rows, last = found
            await self.send_in_order(rows)
            await store.transact(lambda c, upto=last: _DROP.run(c, {"shard": self.shard, "upto": upto}) and None)  # type: ignore[misc]

    async def publish_rows(self, store: Store, rows: Sequence[Outgoing], written: Any) -> None:
        """Publish the rows of a committed transaction; returns when Kafka has all of them. Raises `Retry`; then the rows stay."""
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
        """Called when the transaction of the last `write_rows` is durable: the rows that it deleted are gone."""
        if self._published == self._dropped:
            self._published = None

    @property
    def work_left(self) -> bool:
        """True while the table holds rows of this process, published or not."""
        return self._published is not None or self.left_behind

    def sweep(self) -> None:
        """Called every few seconds. Does nothing here: this process alone writes to its shard."""

    async def send_in_order(self, rows: Sequence[Outgoing]) -> None:
        """Send facts, then the commands that follow from them, without waiting in between: the rows stay in the outbox until Kafka
        has all of them, and later rows are published after that. Raises `Retry`."""
        await self.send_records(sorted(rows, key=lambda row: not row.urgent))

    async def send_records(self, rows: Sequence[Outgoing]) -> None:
        """Send records that need no table. Raises `Retry` after at most `PUBLISH_TIMEOUT_S`."""
        if not rows:
            return
        topics = Tally(row.topic for row in rows)
        started = time.monotonic()
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT_S):
                destination = next(iter(topics)) if len(topics) == 1 else "(several)"
                traces = [row.traceparent for row in rows] if self.telemetry.enabled else []
                with self.telemetry.batch_span("send", "send", destination, traces):
                    # The order of enqueueing is the order in each partition.
                    await asyncio.gather(*await self.batches.enqueue(rows))
        except (TimeoutError, KafkaError) as error:
            # aiokafka raises a bare KafkaError when its sending task has ended.
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
