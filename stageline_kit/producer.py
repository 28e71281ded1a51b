"""Publishes typed messages: idempotent, acknowledged by all replicas, keyed by the topic table."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any, Self

from aiokafka import AIOKafkaProducer

from contracts import TOPICS, Message, to_record
from contracts.cloudevents import Record
from contracts.identity import derived
from contracts.topics import OPERATOR_COMMANDS_TOPIC, is_operators
from stageline_kit.connection import kafka_options


def new_id(name: str | None = None) -> str:
    """An id for a job, session or command: random, or derived from `name`, so that a retry makes the same id."""
    return str(uuid.uuid4()) if name is None else derived(name, "outside")


def topic_of(message: Message) -> str:
    """The topic of a message's type. Raises `ValueError` for a task, whose topic depends on its action."""
    if is_operators(message):
        return OPERATOR_COMMANDS_TOPIC.name
    found = next((t.name for t in TOPICS if type(message) in t.models), None)
    if found is None:
        raise ValueError(f"{type(message).__name__} belongs on a topic of its own; name it")
    return found


class Producer:
    """An async context manager. `source` names your program, e.g. `/acme/billing`; `kafka` are aiokafka's options.

    Without them, addresses (None) and user come from `KAFKA_*` in the environment (`stageline_kit.connection`).
    """

    def __init__(self, bootstrap_servers: str | None, source: str, **kafka: Any) -> None:
        self.source = source
        self._producer = AIOKafkaProducer(
            **kafka_options(bootstrap_servers, kafka), enable_idempotence=True, max_batch_size=262_144
        )

    async def __aenter__(self) -> Self:
        await self._producer.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._producer.stop()

    async def publish(self, message: Message, topic: str | None = None, traceparent: str | None = None) -> None:
        """Send one message; on return Kafka has it. Raises `aiokafka.errors.KafkaError`; a second try is harmless."""
        extra = (("traceparent", traceparent.encode()),) if traceparent else ()
        record = to_record(message, self.source, extra)
        await self._producer.send_and_wait(topic or topic_of(message), record.value, record.key, headers=list(record.headers))

    async def publish_records(self, rows: Sequence[tuple[str, Record]]) -> None:
        """Send records, each with its topic, in this order; on return Kafka has all of them. Raises as `publish`."""
        sent = [await self._producer.send(topic, r.value, r.key, headers=list(r.headers)) for topic, r in rows]
        ended = await asyncio.gather(*sent, return_exceptions=True)
        for error in ended:
            if isinstance(error, BaseException):
                raise error

    async def send_raw(self, topic: str, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]) -> None:
        """Send bytes unchanged (dead letters)."""
        await self._producer.send_and_wait(topic, value, key, headers=headers)
