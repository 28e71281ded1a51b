"""Kafka clients with our settings: a broker object for declarations, a consumer that waits, an idempotent producer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaConnectionError, KafkaError, TopicAlreadyExistsError, for_code
from faststream.kafka import KafkaBroker

from contracts import Topic
from shared.errors import Retry

log = logging.getLogger(__name__)
MAX_RECORD_BYTES = 1_048_576


class WaitingConsumer(AIOKafkaConsumer):  # type: ignore[misc]
    """A consumer whose `getmany` returns only with records.

    FastStream sleeps `batch_timeout_ms` after each empty poll, so its polling costs either latency or idle CPU. Waiting
    here costs neither, and leaves a mark of progress every second.
    """

    last_poll: float = 0.0

    async def getmany(self, *partitions: Any, timeout_ms: float = 0, max_records: int | None = None) -> Any:
        """As aiokafka's, but never empty; cancelled when the subscriber stops."""
        while True:
            batch = await super().getmany(*partitions, timeout_ms=1000, max_records=max_records)
            self.last_poll = time.monotonic()
            if batch:
                return batch


def make_broker(bootstrap: str, drain_timeout_s: float) -> KafkaBroker:
    """A FastStream broker for subscriptions only; records are sent by our own producer (`shared/outbox.py`)."""
    return KafkaBroker(
        bootstrap.split(","), apply_types=False, graceful_timeout=drain_timeout_s, allow_auto_create_topics=False,
        logger=None, enable_idempotence=True,
    )  # fmt: skip


async def connect(broker: KafkaBroker) -> None:
    """Connect with patience: a broker that is not there yet is waited for (up to 60 s), not crashed on."""
    deadline = time.monotonic() + 60
    while True:
        try:
            await broker.connect()
            break
        except KafkaConnectionError:
            if time.monotonic() > deadline:
                raise Retry("kafka_unavailable", "no Kafka broker answered within 60 s") from None
            await asyncio.sleep(0.3)
    config = broker.config.broker_config
    config.builder = partial(WaitingConsumer, **config.builder.keywords)  # type: ignore[attr-defined]


async def make_producer(bootstrap: str, client_id: str) -> AIOKafkaProducer:
    """Started producer: idempotent, `acks=all`, batches of 256 KiB, keyed partitioning. Waits for Kafka up to 60 s."""
    deadline = time.monotonic() + 60
    while True:
        producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap, client_id=client_id, enable_idempotence=True, max_batch_size=262_144, linger_ms=0,
            max_request_size=MAX_RECORD_BYTES, request_timeout_ms=30_000,
        )  # fmt: skip
        try:
            await producer.start()
            return producer
        except KafkaConnectionError:
            await producer.stop()
            if time.monotonic() > deadline:
                raise Retry("kafka_unavailable", "no Kafka broker answered within 60 s") from None
            await asyncio.sleep(0.3)


async def ensure_topics(bootstrap: str, topics: Iterable[Topic], partitions: int, replication: int) -> None:
    """Create what is missing, as the topic table says. Existing topics are left as they are."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        existing = set(await admin.list_topics())
        missing = [_new_topic(t, partitions, replication) for t in topics if t.name not in existing]
        if missing:
            response = await admin.create_topics(missing)
            for name, code, *_ in response.topic_errors:
                error = for_code(code)
                if code and error is not TopicAlreadyExistsError:
                    raise KafkaError(f"topic {name} could not be created: {error.__name__}")
    finally:
        await admin.close()


def _new_topic(topic: Topic, partitions: int, replication: int) -> NewTopic:
    configs = {"cleanup.policy": topic.cleanup, "max.message.bytes": str(MAX_RECORD_BYTES)}
    if topic.cleanup == "delete":
        configs["retention.ms"] = str(topic.retention_s * 1000)
    if replication > 1:
        configs["min.insync.replicas"] = str(replication - 1)
    return NewTopic(topic.name, partitions if topic.hot else 1, replication, topic_configs=configs)
