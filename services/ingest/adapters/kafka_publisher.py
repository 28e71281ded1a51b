"""Publishes commands with a bounded wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from contracts import Message, to_record
from contracts.cloudevents import Headers, holds_nul
from shared.errors import DISK_FULL, DeadLetter, Retry
from shared.kafka.outgoing import Outgoing
from shared.processing.outbox import Relay
from shared.processing.unit_of_work import MAX_VALUE_BYTES
from shared.telemetry.tracing import Telemetry

PUBLISH_BOUND_S = 10.0


class KafkaPublisher:
    """`Publisher` on the idempotent producer of this process. Commands that come at the same time leave in one batch."""

    def __init__(self, relay: Relay, telemetry: Telemetry, shortage: Callable[[], str | None] = lambda: None) -> None:
        self.relay = relay
        self.shortage = shortage
        """Why the disk of the local broker takes nothing; None while it does."""
        self.telemetry = telemetry

    async def publish_command(self, topic: str, message: Message, trace: str | None) -> None:
        carried = self.telemetry.create_span(message, topic, trace)
        extra: Headers = (("traceparent", carried.encode()),) if carried else ()
        record = to_record(message, "/stageline/ingest", extra)
        if holds_nul(record.value):
            raise DeadLetter("invalid_text", "a text contains the character U+0000, which is not allowed")
        if len(record.value) > MAX_VALUE_BYTES:
            raise DeadLetter("too_large", f"the command has {len(record.value)} bytes; the limit is {MAX_VALUE_BYTES}")
        try:
            async with asyncio.timeout(PUBLISH_BOUND_S):
                await self.relay.send_record(Outgoing(topic, record.key, record.value, record.headers))
        except (TimeoutError, Retry) as error:
            full = self.shortage()
            if full is not None:
                raise Retry(DISK_FULL, full) from error
            if isinstance(error, Retry):
                raise
            raise Retry("kafka_unavailable", f"Kafka did not confirm within {PUBLISH_BOUND_S:.0f} s") from error
