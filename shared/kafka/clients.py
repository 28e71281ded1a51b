"""Kafka clients with our settings: a FastStream broker for subscriptions and an idempotent producer."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaConnectionError,
)
from faststream.kafka import KafkaBroker
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from shared.errors import Retry
from shared.kafka.connection import KafkaAccess
from shared.kafka.record_reader import FETCH_BYTES
from shared.kafka.topics import MAX_RECORD_BYTES
from stageline_kit.group_consumer import GroupConsumer

log = logging.getLogger(__name__)
CONNECT_PATIENCE_S = 60.0
LOOK_UP_PAUSE_S = 0.1


def _security(access: KafkaAccess) -> BaseSecurity | None:
    options = access.options
    context = options.get("ssl_context")
    if "sasl_mechanism" not in options:
        return BaseSecurity(ssl_context=context, use_ssl=True) if context else None
    kind = {"PLAIN": SASLPlaintext, "SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512}[options["sasl_mechanism"]]
    who = options["sasl_plain_username"], options["sasl_plain_password"]
    return kind(*who, ssl_context=context, use_ssl=context is not None)


class _Broker(KafkaBroker):
    """A FastStream broker whose subscribers are `GroupConsumer`s."""

    async def _connect(self) -> Any:
        plain: Any = await super()._connect()

        def build(group_id: str | None, enable_auto_commit: bool, **options: Any) -> GroupConsumer:
            options = {**plain.keywords, **options, "fetch_max_bytes": FETCH_BYTES}
            return GroupConsumer(group_id=group_id, enable_auto_commit=False, **options)

        self.config.broker_config.builder = build
        return build


def make_broker(access: KafkaAccess, drain_timeout_s: float) -> KafkaBroker:
    """A FastStream broker that declares and connects subscriptions; `drain_timeout_s` bounds its stop.

    Records are sent by our own producer (`shared/processing/outbox.py`), because FastStream's batches ignore keys.
    """
    return _Broker(
        access.bootstrap_servers.split(","), security=_security(access), apply_types=False, graceful_timeout=drain_timeout_s, allow_auto_create_topics=False,
        logger=None, enable_idempotence=True,
    )  # fmt: skip


async def connect(broker: KafkaBroker) -> None:
    """Connect, waiting up to `CONNECT_PATIENCE_S` for a broker. Raises `Retry` when none answers."""
    deadline = time.monotonic() + CONNECT_PATIENCE_S
    while True:
        try:
            await broker.connect()
            return
        except KafkaConnectionError:
            if time.monotonic() > deadline:
                raise Retry("kafka_unavailable", f"no Kafka broker answered within {CONNECT_PATIENCE_S:.0f} s") from None
            await asyncio.sleep(0.3)


async def make_producer(access: KafkaAccess, client_id: str) -> AIOKafkaProducer:
    """A started producer: idempotent, `acks=all`, batches of 256 KiB, partitions chosen by key.

    Waits up to `CONNECT_PATIENCE_S` for a broker. Raises `Retry` when none answers.
    """
    deadline = time.monotonic() + CONNECT_PATIENCE_S
    while True:
        producer = AIOKafkaProducer(
            **access.options, client_id=client_id, enable_idempotence=True, max_batch_size=262_144, linger_ms=0,
            max_request_size=2 * MAX_RECORD_BYTES + 65_536, request_timeout_ms=30_000,
        )  # fmt: skip
        _pace_look_ups(producer.client)
        try:
            await producer.start()
            return producer
        except KafkaConnectionError:
            await producer.stop()
            if time.monotonic() > deadline:
                raise Retry("kafka_unavailable", f"no Kafka broker answered within {CONNECT_PATIENCE_S:.0f} s") from None
            await asyncio.sleep(0.3)


def _pace_look_ups(client: Any) -> None:
    """Pause between two requests for metadata. While the leader of a partition is unknown, aiokafka's sender asks again at once."""
    ask, latest = client._metadata_update, float("-inf")

    async def paced(*arguments: Any) -> Any:
        nonlocal latest
        await asyncio.sleep(max(0.0, latest + LOOK_UP_PAUSE_S - time.monotonic()))
        latest = time.monotonic()
        return await ask(*arguments)

    client._metadata_update = paced
