"""The relay publishes outbox rows to Kafka in the order of their transactions, facts before the commands that follow from them.

A process with a database of its own publishes from memory after each transaction, and deletes the row with the next
transaction, so a batch costs one fsync. Rows left by a crash or an outage are read from the table and published first, under the
same ids, so receivers drop duplicates. A record that Kafka refuses for its own sake, such as one for a missing topic, moves to the table
`outbox_held` and holds up only what comes after it (`shared/processing/held_back.py`). Replicas that share a database use `shared/processing/outbox_shared.py`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter as Tally
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.errors import InvalidProducerEpoch, KafkaError, OutOfOrderSequenceNumber, ProducerFenced, UnknownProducerId
from sqlalchemy import Connection, select

from shared import clock
from shared.database.statements import Statement
from shared.database.store import OUTBOX_BATCH, Store
from shared.errors import Retry
from shared.kafka.outgoing import Outgoing
from shared.kafka.producer_batches import ProducerBatches
from shared.kafka.refusals import TOO_LARGE, Refused, Unsendable
from shared.processing import held_back
from shared.processing.outbox_codec import insert_batch, unpack
from shared.processing.sealing import Sealing
from shared.telemetry.tracing import Telemetry

log = logging.getLogger(__name__)
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
        self.failed_at = float("-inf")
        """When Kafka last took nothing, on the monotonic clock. In an outage each try fails after `PUBLISH_TIMEOUT_S`."""
        self.sealing: Sealing | None = None
        """Seals what is sent, if the deployment wants it. The table has the plain records until Kafka has them."""
        self.left_behind = True
        """True while the table may hold rows of an earlier process or of a failed publish; they must be published first."""
        self.broken: KafkaError | None = None
        """Why this producer can never send again; None while it can. aiokafka numbers a batch before it sends it. A batch that the
        broker refuses for good leaves a gap, and the broker refuses all later batches of the partition. Only a new producer helps."""
        self.held = held_back.HeldBack()
        """What Kafka refuses while it takes other records."""
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
        if self.left_behind:
            self.held = await store.read(held_back.read)
        while self.left_behind:
            found = await store.read(lambda c: left_behind(c, self.shard))
            if found is None:
                self.left_behind, self._published = False, None
                return
            rows, last = found
            refused, now = await self.send_in_order(rows), clock.unix()

            def settle(connection: Connection, refused: Sequence[Refused] = refused, upto: int = last, now: float = now) -> None:
                held_back.keep(connection, refused, now)
                _DROP.run(connection, {"shard": self.shard, "upto": upto})

            await store.transact(settle)

    async def publish_rows(self, store: Store, rows: Sequence[Outgoing], written: Any) -> None:
        """Publish the rows of a committed transaction; returns when Kafka has all of them, or they are held back. Raises `Retry`; then
        the rows stay."""
        if self.left_behind:
            raise Retry("kafka_unavailable", "what was decided before is not published yet")
        try:
            refused, now = await self.send_in_order(rows), clock.unix()
            if refused:
                await store.transact(lambda c: held_back.keep(c, refused, now))
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

    async def release_held(self, store: Store, existing: Collection[str]) -> None:
        """Send what is held back for topics in `existing`, as far as Kafka takes it now. Called while nothing is being published.

        Replicas may do so at the same time: receivers drop the duplicates. Raises `Retry` for an outage.
        """
        for topic in [topic for topic in self.held.topics if topic in existing]:
            await self._release(store, topic, self.held.topics[topic].code)
        self.held = await store.read(held_back.read)

    async def _release(self, store: Store, topic: str, code: str) -> None:
        after, blocked = 0, set[bytes | None]()
        while page := await store.read(lambda c, after=after: held_back.page_of(c, topic, after)):  # type: ignore[misc]
            after = page[-1][0]
            rows = [row for _, found in page for row in found]
            left = {id(row): TOO_LARGE for row in rows if row.key in blocked}
            # One by one where one is too large: a batch would be refused with it.
            tries = [[row] for row in rows if id(row) not in left] if code == TOO_LARGE else [rows]
            for rows in tries:
                if code == TOO_LARGE and rows[0].key in blocked:
                    left[id(rows[0])] = TOO_LARGE
                    continue
                refused = await self._refused_of(rows)
                left.update((id(one.row), one.code) for one in refused)
                blocked.update(one.row.key for one in refused if one.code == TOO_LARGE)
            await store.transact(lambda c, page=page, left=left: held_back.put_back(c, page, left))  # type: ignore[misc]
            if any(found != TOO_LARGE for found in left.values()):
                return
            log.info("held back records were sent", extra={"topic": topic, "records": sum(len(f) for _, f in page) - len(left)})

    async def _refused_of(self, rows: Sequence[Outgoing]) -> Sequence[Refused]:
        try:
            await self.send_records(rows)
        except Unsendable as error:
            return error.refused
        return ()

    async def send_in_order(self, rows: Sequence[Outgoing]) -> Sequence[Refused]:
        """Send facts, then the commands that follow from them, without waiting in between: the rows stay in the outbox until Kafka
        has all of them, and later rows are published after that. Returns the records that Kafka refused and those behind them.
        Raises `Retry`."""
        free, behind = self.held.split(sorted(rows, key=lambda row: not row.urgent))
        refused = [*behind, *(await self._refused_of(free))]
        self.held.add(refused, clock.unix())
        return refused

    async def send_records(self, rows: Sequence[Outgoing]) -> None:
        """Send records that need no table. Raises `Unsendable` with those that Kafka refuses, once the others are sent, and `Retry`
        after at most `PUBLISH_TIMEOUT_S`."""
        # The order of enqueueing is the order in each partition.
        await self._send(rows, singly=False)

    async def send_record(self, row: Outgoing) -> None:
        """Send one record that needs no table, in one batch with others that are sent at the same time. Raises as `send_records`."""
        await self._send([row], singly=True)

    async def _send(self, rows: Sequence[Outgoing], singly: bool) -> None:
        if self.sealing is not None:
            rows = self.sealing.sealed(rows)
        if not rows:
            return
        topics = Tally(row.topic for row in rows)
        started = time.monotonic()
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT_S):
                destination = next(iter(topics)) if len(topics) == 1 else "(several)"
                traces = [row.traceparent for row in rows] if self.telemetry.enabled else []
                with self.telemetry.batch_span("send", "send", destination, traces):
                    refused = await self.batches.send(rows, singly)
        except (TimeoutError, KafkaError) as error:
            # aiokafka raises a bare KafkaError when its sending task has ended.
            if isinstance(error, _SEQUENCE) or type(error) is KafkaError:
                self.broken = error
            self.failed_at = time.monotonic()
            raise Retry("kafka_unavailable", f"publish failed: {error!r}") from error
        self.telemetry.record("messaging.client.operation.duration", time.monotonic() - started,
                              **{"messaging.operation.name": "send", "messaging.system": "kafka"})  # fmt: skip
        topics.subtract(one.row.topic for one in refused)
        for topic, n in topics.items():
            self.telemetry.count("messaging.client.sent.messages", n, **{"messaging.destination.name": topic})
        if refused:
            # As they were given: the caller looks for its own rows, and its table has plain ones.
            raise Unsendable([replace(one, row=one.row.plain or one.row) for one in refused])


def left_behind(connection: Connection, shard: str) -> tuple[list[Outgoing], int] | None:
    """The oldest row of a shard: its records and its id. None when the shard holds nothing."""
    batch = connection.execute(
        select(OUTBOX_BATCH).where(OUTBOX_BATCH.c.shard == shard).order_by(OUTBOX_BATCH.c.id).limit(1)
    ).first()
    return (unpack(batch.body), batch.id) if batch else None
