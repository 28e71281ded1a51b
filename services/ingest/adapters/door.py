"""The door's two ports made real: publishing with a bounded wait, and waiting for decisions in the read model."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from sqlalchemy import text

from contracts import Message, to_record
from contracts.cloudevents import Headers, holds_nul
from shared.errors import Park, Retry
from shared.outbox import Relay
from shared.store import Store
from shared.telemetry import Telemetry
from shared.unit import Outgoing

PUBLISH_BOUND_S = 10.0
OTHER_REPLICA_S = 0.1
"""How often the store is looked at for decisions that another replica of the door has read."""


class KafkaPublisher:
    """`Publisher` on the process's idempotent producer."""

    def __init__(self, relay: Relay, telemetry: Telemetry) -> None:
        self.relay = relay
        self.telemetry = telemetry

    async def publish(self, topic: str, message: Message, trace: str | None) -> None:
        carried = self.telemetry.create(message, topic, trace)
        extra: Headers = (("traceparent", carried.encode()),) if carried else ()
        record = to_record(message, "/stageline/ingest", extra)
        if holds_nul(record.value):
            raise Park("invalid_text", "a text holds the character U+0000, which cannot be kept")
        try:
            async with asyncio.timeout(PUBLISH_BOUND_S):
                await self.relay.send([Outgoing(topic, record.key, record.value, record.headers)])
        except TimeoutError as error:
            raise Retry("kafka_unavailable", f"Kafka did not confirm within {PUBLISH_BOUND_S:.0f} s") from error


class StoredDecisions:
    """`Decisions` in the read model: woken by our own commits, polled for other replicas'."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.closing = False
        self._changed = asyncio.Event()

    def wake(self) -> None:
        """The read model has moved."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def decision(self, command_id: str, timeout_s: float) -> dict[str, Any] | None:
        query = text("SELECT body FROM decision WHERE command_id = :i")
        body = await self.until(lambda c: c.execute(query, {"i": command_id}).scalar(), timeout_s)
        return None if body is None else json.loads(body)

    def close(self) -> None:
        """We are going: whoever waits out of patience alone is answered now."""
        self.closing = True
        self.wake()

    async def until(self, look: Any, timeout_s: float, patient: bool = False) -> Any:
        """What `look(connection)` finds, as soon as it finds something; None when it does not in time.

        `patient`: the caller has its answer and waits for more; such a wait ends when this process does.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            changed = self._changed
            found = await self.store.read(look)
            left = deadline - time.monotonic()
            if found is not None or left <= 0 or (patient and self.closing):
                return found
            try:
                await asyncio.wait_for(changed.wait(), min(left, OTHER_REPLICA_S))
            except TimeoutError:
                continue
