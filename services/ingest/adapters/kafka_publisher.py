"""Implements the ports: publishes commands with a bounded wait, and finds their answers in the read model."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, text

from contracts import Message, to_record
from contracts.cloudevents import Headers, holds_nul
from shared.database.store import Store
from shared.errors import DeadLetter, Retry
from shared.kafka.outgoing import Outgoing
from shared.processing.outbox import Relay
from shared.telemetry.tracing import Telemetry

PUBLISH_BOUND_S = 10.0
FIRST_POLL_S = 0.03
POLL_S = 0.1
"""Interval of looking into the store, where other replicas write the answers that they read."""

T = TypeVar("T")
_DECISION = text("SELECT body FROM decision WHERE command_id = :i")


class KafkaPublisher:
    """`Publisher` on the idempotent producer of this process."""

    def __init__(self, relay: Relay, telemetry: Telemetry) -> None:
        self.relay = relay
        self.telemetry = telemetry

    async def publish_command(self, topic: str, message: Message, trace: str | None) -> None:
        carried = self.telemetry.create_span(message, topic, trace)
        extra: Headers = (("traceparent", carried.encode()),) if carried else ()
        record = to_record(message, "/stageline/ingest", extra)
        if holds_nul(record.value):
            raise DeadLetter("invalid_text", "a text contains the character U+0000, which is not allowed")
        try:
            async with asyncio.timeout(PUBLISH_BOUND_S):
                await self.relay.send_records([Outgoing(topic, record.key, record.value, record.headers)])
        except TimeoutError as error:
            raise Retry("kafka_unavailable", f"Kafka did not confirm within {PUBLISH_BOUND_S:.0f} s") from error


class StoredDecisions:
    """`Decisions` in the read model: signalled by commits of this process, polled for those of other replicas."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.closing = False
        self._changed = asyncio.Event()
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}

    def wake(self) -> None:
        """Repeat every waiting `look`: the read model has changed."""
        self._changed.set()
        self._changed = asyncio.Event()

    def arrive(self, decisions: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """Hand answers that this process has read to the requests that wait for them."""
        for command_id, body in decisions:
            waiting = self._waiting.get(command_id)
            if waiting is not None and not waiting.done():
                waiting.set_result(body)

    async def decision(self, command_id: str, timeout_s: float) -> dict[str, Any] | None:
        waiting = self._waiting.setdefault(command_id, asyncio.get_running_loop().create_future())
        deadline, pause = time.monotonic() + timeout_s, FIRST_POLL_S
        try:
            while not waiting.done():
                # The store may have the answer: of an earlier command with the same id, or read by another replica.
                await asyncio.wait({waiting}, timeout=max(0.0, min(pause, deadline - time.monotonic())))
                if not waiting.done():
                    body = await self.store.read(lambda c: c.execute(_DECISION, {"i": command_id}).scalar())
                    if body is not None or time.monotonic() >= deadline:
                        return None if body is None else json.loads(body)
                pause = POLL_S
            return waiting.result()
        finally:
            self._waiting.pop(command_id, None)

    def close(self) -> None:
        """End all patient waits: the process shuts down."""
        self.closing = True
        self.wake()

    async def wait_until(self, look: Callable[[Connection], T | None], timeout_s: float, patient: bool = False) -> T | None:
        deadline = time.monotonic() + timeout_s
        while True:
            changed = self._changed
            found = await self.store.read(look)
            left = deadline - time.monotonic()
            if found is not None or left <= 0 or (patient and self.closing):
                return found
            try:
                await asyncio.wait_for(changed.wait(), min(left, POLL_S))
            except TimeoutError:
                continue
