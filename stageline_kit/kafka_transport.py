"""The kit's own transport: one aiokafka consumer for tasks, one producer for reports."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import (
    IllegalStateError,
    InvalidProducerEpoch,
    KafkaError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    ProducerFenced,
    RecordListTooLargeError,
    UnknownProducerId,
)

from contracts import Message, to_record
from contracts.cloudevents import Record
from stageline_kit.assignment import sticky_assignors
from stageline_kit.connection import kafka_options
from stageline_kit.group_consumer import GroupConsumer
from stageline_kit.outages import Outages
from stageline_kit.producer import Producer
from stageline_kit.record_seals import RecordSeals
from stageline_kit.transport import NotSent, RecordRefused

log = logging.getLogger(__name__)
Row = tuple[str, Record]
TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
BROKEN = (OutOfOrderSequenceNumber, UnknownProducerId, InvalidProducerEpoch, ProducerFenced)
"""Errors after which a producer can send nothing more: its numbers no longer match the broker's."""
STOP_S = 5.0
ENDS_S = 5.0


class KafkaTransport:
    """A `Transport` over aiokafka. `kafka` are aiokafka's options for both clients; see `stageline_kit.connection`.

    `outages` takes note of what Kafka answers.
    """

    def __init__(self, bootstrap_servers: str | None, source: str, outages: Outages | None = None, **kafka: Any) -> None:
        self.outages = outages or Outages()
        self.bootstrap_servers = bootstrap_servers
        self.source = source
        self.kafka = kafka
        self.consumer: GroupConsumer
        self._producer: Producer
        self._done: dict[TopicPartition, int] = {}
        self._committing = asyncio.Lock()
        self.seals = RecordSeals(kafka_options(bootstrap_servers, kafka))

    async def start(self, group: str, topics: Sequence[str], listener: ConsumerRebalanceListener) -> None:
        """Connect, and join `group` for `topics`. Raises `KafkaError`."""
        self._producer = Producer(self.bootstrap_servers, self.source, **self.kafka)
        # An action may take long; the number of slots is the back-pressure.
        self.consumer = GroupConsumer(
            group_id=group, enable_auto_commit=False, auto_offset_reset="earliest", max_poll_interval_ms=3_600_000,
            metadata_max_age_ms=5000, partition_assignment_strategy=sticky_assignors(), **kafka_options(self.bootstrap_servers, self.kafka),
        )  # fmt: skip
        self.consumer.subscribe(list(topics), listener=listener)
        await self._producer.__aenter__()
        await self.consumer.start()

    async def stop(self) -> None:
        """Leave the group and close both connections, as far as there are any."""
        await self.seals.close()
        if hasattr(self, "consumer"):
            await self.consumer.stop()
        if hasattr(self, "_producer"):
            await self._producer.__aexit__()

    def encode_record(self, topic: str, message: Message, traceparent: str | None) -> Row:
        """A row is a topic and a record."""
        extra = (("traceparent", traceparent.encode()),) if traceparent else ()
        return topic, to_record(message, self.source, extra)

    async def send_rows(self, rows: Sequence[Row]) -> None:
        """Send rows in their order. Raises `NotSent`, or `RecordRefused` when one of them is too large for its topic."""
        try:
            await self._producer.publish_records(self.seals.sealed_records(rows))
            self.outages.answered()
        except TOO_LARGE as error:
            # aiokafka numbers a batch before it sends it, so a refused batch leaves a gap that the broker never forgives.
            await self._replace_producer()
            raise RecordRefused(str(error) or type(error).__name__) from error
        except KafkaError as error:
            self.outages.note(error)
            if isinstance(error, BROKEN) or type(error) is KafkaError:
                await self._replace_producer()
            raise NotSent(repr(error)) from error

    async def _replace_producer(self) -> None:
        broken = self._producer
        fresh = Producer(self.bootstrap_servers, self.source, **self.kafka)
        try:
            await fresh.__aenter__()
        except KafkaError as error:
            await fresh.__aexit__()
            raise NotSent(repr(error)) from error
        self._producer = fresh
        with suppress(KafkaError, TimeoutError):
            await asyncio.wait_for(broken.__aexit__(), STOP_S)

    def mark_done(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Take note of offsets that may be committed."""
        self._done.update(offsets)

    async def commit_offsets(self) -> bool:
        """Commit the noted offsets. Those that Kafka refuses stay noted, unless the partition was revoked meanwhile."""
        async with self._committing:
            assigned = self.consumer.assignment()
            offsets = {partition: offset for partition, offset in self._done.items() if partition in assigned}
            if not offsets:
                return True
            try:
                await asyncio.shield(self.consumer.commit(offsets))
            except (KafkaError, IllegalStateError) as error:
                self.outages.note(error)
                log.warning("offsets were not committed: %r", error)
                return False
            for partition, offset in offsets.items():
                if self._done.get(partition) == offset:
                    del self._done[partition]
            return True

    async def end_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Ends of partitions, as far as the broker tells them in time."""
        try:
            return dict(await asyncio.wait_for(self.consumer.end_offsets(list(partitions)), ENDS_S)) if partitions else {}
        except (KafkaError, TimeoutError) as error:
            log.warning("ends of partitions are unknown: %r", error)
            return {}

    def drop_partitions(self, partitions: Collection[TopicPartition]) -> None:
        """Forget what was noted of revoked partitions."""
        for partition in partitions:
            self._done.pop(partition, None)
