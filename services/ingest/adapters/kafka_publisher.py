"""The door's two ports made real: publishing with a bounded wait, and waiting for decisions in the read model."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import text

from contracts import Message, to_record
from contracts.cloudevents import Headers, holds_nul
from shared.database.store import Store
from shared.errors import DeadLetter, Retry
from shared.kafka.outgoing import Outgoing
from shared.processing.outbox import Relay
from shared.telemetry.tracing import Telemetry

PUBLISH_BOUND_S = 10.0
FIRST_LOOK_S = 0.03
OTHER_REPLICA_S = 0.1
"""How often the store is looked at for decisions that another replica of the door has read."""


_DECISION = text("SELECT body FROM decision WHERE command_id = :i")


class KafkaPublisher:
    """`Publisher` on the process's idempotent producer."""

    def __init__(self, relay: Relay, telemetry: Telemetry) -> None:
        self.relay = relay
        self.telemetry = telemetry

    async def publish(self, topic: str, message: Message, trace: str | None) -> None:
        carried = self.telemetry.create_span(message, topic, trace)
        extra: Headers = (("traceparent", carried.encode()),) if carried else ()
        record = to_record(message, "/stageline/ingest", extra)
        if holds_nul(record.value):
            raise DeadLetter("invalid_text", "a text holds the character U+0000, which cannot be kept")
        try:
            async with asyncio.timeout(PUBLISH_BOUND_S):
                await self.relay.send_records([Outgoing(topic, record.key, record.value, record.headers)])
        except TimeoutError as error:
            raise Retry("kafka_unavailable", f"Kafka did not confirm within {PUBLISH_BOUND_S:.0f} s") from error


class StoredDecisions:
    """`Decisions` in the read model: woken by our own commits, polled for other replicas'."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.closing = False
        self._changed = asyncio.Event()
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}

    def wake(self) -> None:
        """The read model has moved."""
        self._changed.set()
        self._changed = asyncio.Event()

    def arrive(self, decisions: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """What this process has just read: told to whoever waits for it, and to nobody else."""
        for command_id, body in decisions:
            waiting = self._waiting.get(command_id)
            if waiting is not None and not waiting.done():
                waiting.set_result(body)

    async def decision(self, command_id: str, timeout_s: float) -> dict[str, Any] | None:
        waiting = self._waiting.setdefault(command_id, asyncio.get_running_loop().create_future())
        deadline, pause = time.monotonic() + timeout_s, FIRST_LOOK_S
        try:
            while not waiting.done():
                # A repeated command was answered long ago, and another replica may read the answer to ours: both stand in the store.
                await asyncio.wait({waiting}, timeout=max(0.0, min(pause, deadline - time.monotonic())))
                if not waiting.done():
                    body = await self.store.read(lambda c: c.execute(_DECISION, {"i": command_id}).scalar())
                    if body is not None or time.monotonic() >= deadline:
                        return None if body is None else json.loads(body)
                pause = OTHER_REPLICA_S
            return waiting.result()
        finally:
            self._waiting.pop(command_id, None)

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
