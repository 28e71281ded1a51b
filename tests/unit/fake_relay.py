"""A relay that collects records instead of sending them, and records as a consumer delivers them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka import ConsumerRecord

from contracts import CancelJob, CreateJob, to_record
from contracts.topics import JOB_COMMANDS_TOPIC
from shared.errors import Retry
from shared.kafka.outgoing import Outgoing
from shared.processing.held_back import HeldBack
from shared.processing.outbox import Relay
from shared.processing.records import Inbound
from shared.processing.subscription import decode
from shared.telemetry.tracing import Telemetry
from tests.contracts.examples import OTHERS

TYPES = {JOB_COMMANDS_TOPIC.name: frozenset(m.TYPE for m in JOB_COMMANDS_TOPIC.models)}


class NotingRelay(Relay):
    """Sends nothing. Fails like Kafka while `down` is true, and waits while `slow` is not set."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []
        self.down = False
        self.slow = asyncio.Event()
        self.slow.set()
        self.telemetry, self.shard, self.left_behind = Telemetry("t", "i"), "t", True
        self._published = self._dropped = None
        self.held = HeldBack()

    async def send_records(self, rows: Sequence[Outgoing]) -> None:
        await self.slow.wait()
        if self.down:
            raise Retry("kafka_unavailable", "down")
        self.sent += rows


def record(message: Any, offset: int = 0) -> ConsumerRecord[Any, Any]:
    made = to_record(message, "/t")
    return ConsumerRecord(JOB_COMMANDS_TOPIC.name, 0, offset, 1000, 0, made.key, made.value, None, 0, 0, made.headers)


CREATE, CANCEL = (next(m for m in OTHERS if type(m) is kind) for kind in (CreateJob, CancelJob))


def inbound(*messages: Any) -> list[Inbound]:
    good, bad = decode([record(m, n) for n, m in enumerate(messages)], TYPES)
    assert not bad
    return good
