"""The worker's connection to Kafka: the service's relay for reports, its consumer group for tasks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition

from contracts import Message, to_record
from contracts.cloudevents import Headers
from shared.errors import Retry
from shared.kafka.offset_commits import OffsetCommits
from shared.kafka.outgoing import Outgoing
from shared.processing.outbox import Relay
from shared.telemetry.tracing import Telemetry
from stageline_kit.transport import NotSent

SOURCE = "/stageline/stage_worker"


class RelayTransport:
    """A `Transport` whose rows are `Outgoing` records. `consumer` yields the running consumer of `group`, or None."""

    def __init__(self, relay: Relay, telemetry: Telemetry, consumer: Callable[[], Any], group: str) -> None:
        self.relay = relay
        self.drop_queued: Callable[[Collection[TopicPartition]], None] = lambda partitions: None
        """Drops fetched records of partitions that no handler has seen yet."""
        self.commits = OffsetCommits(consumer, telemetry, group)

    def encode_record(self, topic: str, message: Message, traceparent: str | None) -> Outgoing:
        """Make a row of `message`."""
        extra: Headers = (("traceparent", traceparent.encode()),) if traceparent else ()
        record = to_record(message, SOURCE, extra)
        return Outgoing(topic, record.key, record.value, record.headers)

    async def send_rows(self, rows: Sequence[Outgoing]) -> None:
        """Send rows in their order. Raises `NotSent`."""
        try:
            await self.relay.send_records(rows)
        except Retry as error:
            raise NotSent(f"{error.code}: {error}") from error

    def mark_done(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit these offsets soon."""
        self.commits.mark_done(dict(offsets))

    async def commit_offsets(self) -> None:
        """Commit the noted offsets now."""
        await self.commits.flush()

    def drop_partitions(self, partitions: Collection[TopicPartition]) -> None:
        """Drop fetched records of revoked partitions."""
        self.drop_queued(partitions)
