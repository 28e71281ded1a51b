"""The connection of a worker to Kafka, as an interface. `KafkaTransport` is the kit's own; a host may bring another."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from aiokafka import TopicPartition

from contracts import Message


class NotSent(Exception):
    """Kafka has not acknowledged the records. Sending them again is harmless: receivers drop repeats by id."""


class RecordRefused(NotSent):
    """Kafka refuses a record for good, e.g. for its size. Sending it again is in vain."""


class Transport(Protocol):
    """What a `TaskEngine` needs. A row is a record in the transport's own form."""

    def encode_record(self, topic: str, message: Message, traceparent: str | None) -> Any:
        """Make a row of `message`."""
        ...

    async def send_rows(self, rows: Sequence[Any]) -> None:
        """Send rows in this order; return when Kafka has acknowledged all of them. Raises `NotSent`, or `RecordRefused`."""
        ...

    def mark_done(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Take note of offsets (partition → next offset) that may be committed. The transport chooses when."""
        ...

    async def commit_offsets(self) -> bool:
        """Commit the noted offsets now, for the partitions that are still assigned. A failure is logged, not raised.

        Returns False after a failure.
        """
        ...

    async def end_offsets(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Partition → offset after its last record. Partitions whose end cannot be had are absent; nothing is raised."""
        ...

    def drop_partitions(self, partitions: Collection[TopicPartition]) -> None:
        """Forget offsets and buffered records of partitions that were revoked."""
        ...
