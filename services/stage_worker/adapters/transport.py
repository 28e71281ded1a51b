"""The worker's connection to Kafka: the service's relay for reports, its consumer group for tasks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from contracts import Message, to_record
from contracts.cloudevents import Headers
from shared.errors import Retry
from shared.kafka.offset_commits import OffsetCommits
from shared.kafka.outgoing import Outgoing
from shared.kafka.refusals import TOO_LARGE, Unsendable
from shared.processing.outbox import Relay
from shared.telemetry.tracing import Telemetry
from stageline_kit.transport import NotSent, RecordRefused

log = logging.getLogger(__name__)
SOURCE = "/stageline/stage_worker"
ENDS_S = 5.0


class RelayTransport:
    """A `Transport` whose rows are `Outgoing` records. `consumer` yields the running consumer of `group`, or None."""

    def __init__(self, relay: Relay, telemetry: Telemetry, consumer: Callable[[], Any], group: str) -> None:
        self.relay = relay
        self.consumer = consumer
        self.drop_queued: Callable[[Collection[TopicPartition]], None] = lambda partitions: None
        """Drops fetched records of partitions that no handler has seen yet."""
        self.commits = OffsetCommits(consumer, telemetry, group)

    def encode_record(self, topic: str, message: Message, traceparent: str | None) -> Outgoing:
        """Make a row of `message`."""
        extra: Headers = (("traceparent", traceparent.encode()),) if traceparent else ()
        record = to_record(message, SOURCE, extra)
        return Outgoing(topic, record.key, record.value, record.headers)

    async def send_rows(self, rows: Sequence[Outgoing]) -> None:
        """Send rows in their order. Raises `NotSent`, or `RecordRefused`."""
        try:
            await self.relay.send_records(rows)
        except Unsendable as error:
            if any(one.code == TOO_LARGE for one in error.refused):
                raise RecordRefused(str(error)) from error
            raise NotSent(f"{error.code}: {error}") from error
        except Retry as error:
            raise NotSent(f"{error.code}: {error}") from error

    def mark_done(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit these offsets soon."""
        self.commits.mark_done(dict(offsets))

    async def commit_offsets(self) -> bool:
        """Commit the noted offsets now."""
        return await self.commits.flush()

    async def end_offsets(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Ends of partitions, as far as the broker tells them in time."""
        consumer = self.consumer()
        if consumer is None or not partitions:
            return {}
        try:
            found: dict[TopicPartition, int] = await asyncio.wait_for(consumer.end_offsets(list(partitions)), ENDS_S)
        except (KafkaError, TimeoutError) as error:
            log.warning("ends of partitions are unknown", extra={"reason": repr(error)})
            return {}
        return found

    def drop_partitions(self, partitions: Collection[TopicPartition]) -> None:
        """Drop fetched records of revoked partitions."""
        self.drop_queued(partitions)
