"""The kit's own transport: one aiokafka consumer for tasks, one producer for reports."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from contracts import Message, to_record
from contracts.cloudevents import Record
from stageline_kit.producer import Producer
from stageline_kit.transport import NotSent

log = logging.getLogger(__name__)
Row = tuple[str, Record]


class KafkaTransport:
    """A `Transport` over aiokafka. `kafka` are aiokafka's options for both clients."""

    def __init__(self, bootstrap_servers: str, source: str, **kafka: Any) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.source = source
        self.kafka = kafka
        self.consumer: AIOKafkaConsumer
        self._producer: Producer
        self._done: dict[TopicPartition, int] = {}

    async def start(self, group: str, topics: Sequence[str], listener: ConsumerRebalanceListener) -> None:
        """Connect, and join `group` for `topics`. Raises `KafkaError`."""
        self._producer = Producer(self.bootstrap_servers, self.source, **self.kafka)
        # An action may take long; the number of slots is the back-pressure.
        self.consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap_servers, group_id=group, enable_auto_commit=False, auto_offset_reset="earliest",
            max_poll_interval_ms=3_600_000, metadata_max_age_ms=5000, **self.kafka,
        )  # fmt: skip
        self.consumer.subscribe(list(topics), listener=listener)
        await self._producer.__aenter__()
        await self.consumer.start()

    async def stop(self) -> None:
        """Leave the group and close both connections."""
        await self.consumer.stop()
        await self._producer.__aexit__()

    def encode_record(self, topic: str, message: Message, traceparent: str | None) -> Row:
        """A row is a topic and a record."""
        extra = (("traceparent", traceparent.encode()),) if traceparent else ()
        return topic, to_record(message, self.source, extra)

    async def send_rows(self, rows: Sequence[Row]) -> None:
        """Send rows in their order. Raises `NotSent`."""
        try:
            await self._producer.publish_records(rows)
        except KafkaError as error:
            raise NotSent(repr(error)) from error

    def mark_done(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Take note of offsets that may be committed."""
        self._done.update(offsets)

    async def commit_offsets(self) -> None:
        """Commit the noted offsets. Those that Kafka refuses stay noted, unless the partition was revoked meanwhile."""
        assigned = self.consumer.assignment()
        offsets = {partition: offset for partition, offset in self._done.items() if partition in assigned}
        if not offsets:
            return
        try:
            await asyncio.shield(self.consumer.commit(offsets))
        except KafkaError as error:
            log.warning("offsets were not committed: %r", error)
            return
        for partition, offset in offsets.items():
            if self._done.get(partition) == offset:
                del self._done[partition]

    def drop_partitions(self, partitions: Collection[TopicPartition]) -> None:
        """Forget what was noted of revoked partitions."""
        for partition in partitions:
            self._done.pop(partition, None)
