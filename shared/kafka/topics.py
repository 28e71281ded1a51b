"""Creates the topics of the topic table (`contracts/topics.py`) on the cluster, with partitions, sizes and retention."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    BrokerNotAvailableError,
    InvalidReplicationFactorError,
    KafkaConnectionError,
    LeaderNotAvailableError,
    NodeNotReadyError,
    NotControllerError,
    RequestTimedOutError,
    TopicAlreadyExistsError,
    for_code,
)

from contracts import Topic
from shared.kafka.connection import KafkaAccess

log = logging.getLogger(__name__)
MAX_RECORD_BYTES = 1_048_576

PASSING = (
    InvalidReplicationFactorError, NotControllerError, RequestTimedOutError, LeaderNotAvailableError, BrokerNotAvailableError,
    KafkaConnectionError, NodeNotReadyError,
)  # fmt: skip
"""Errors of a cluster that is starting: its brokers register one after the other, and a topic may need several."""

EARLIER_S = 30 * 86_400
"""Retention that earlier releases gave to topics which now have a shorter one."""
OF_TOPIC = 1
"""Kafka's number for the source of a setting: the topic itself."""


@dataclass(frozen=True, slots=True)
class TopicSizes:
    """How large a deployment makes its topics: partitions of hot topics and of task topics, and replicas of each partition."""

    hot: int
    tasks: int
    replication: int

    def partitions(self, topic: Topic) -> int:
        """Partitions of a row of the topic table."""
        if topic.tasks:
            return self.tasks
        return self.hot if topic.hot else 1


async def ensure_topics(access: KafkaAccess, topics: Iterable[Topic], sizes: TopicSizes, patience_s: float = 0.0) -> None:
    """Create the missing ones of `topics`. Existing topics keep their partitions and settings.

    Retries errors in `PASSING` for `patience_s` seconds. Raises `KafkaError` naming the topic and the reason.
    """
    deadline = time.monotonic() + patience_s
    wanted = list(topics)
    while True:
        try:
            return await _create_missing(access, wanted, sizes)
        except PASSING as error:
            if time.monotonic() >= deadline:
                raise
            log.info("creation of topics will be retried", extra={"reason": str(error) or repr(error)})
        await asyncio.sleep(0.5)


async def _create_missing(access: KafkaAccess, topics: Sequence[Topic], sizes: TopicSizes) -> None:
    admin = AIOKafkaAdminClient(**access.options)
    try:
        await admin.start()
        existing = set(await admin.list_topics())
        missing = [_new_topic(t, sizes) for t in topics if t.name not in existing]
        if missing:
            response = await admin.create_topics(missing)
            for name, code, *_ in response.topic_errors:
                error = for_code(code)
                if code and error is not TopicAlreadyExistsError:
                    raise error(f"topic {name} could not be created: {error.__name__}")
    finally:
        await admin.close()


async def shorten_retention(access: KafkaAccess, topics: Iterable[Topic]) -> list[str]:
    """Give topics that an earlier release has made the shorter retention of the table; returns their names.

    A retention that is not `EARLIER_S` was set by the operator, and stays. So do all other settings of a topic. Raises `KafkaError`.
    """
    wanted = {t.name: t.retention_s for t in topics if t.cleanup == "delete" and t.retention_s < EARLIER_S}
    admin = AIOKafkaAdminClient(**access.options)
    try:
        await admin.start()
        existing = sorted(wanted.keys() & set(await admin.list_topics()))
        changes = []
        for name, own in (await _own_settings(admin, existing)).items():
            if own.get("retention.ms") == str(EARLIER_S * 1000):
                changes.append((name, {**own, "retention.ms": str(wanted[name] * 1000)}))
        if changes:
            resources = [ConfigResource(ConfigResourceType.TOPIC, name, configs) for name, configs in changes]
            for response in await admin.alter_configs(resources):
                for code, reason, _, name in response.resources:
                    if code:
                        raise for_code(code)(f"retention of topic {name} could not be changed: {reason}")
        return [name for name, _ in changes]
    finally:
        await admin.close()


async def _own_settings(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """The settings that each topic has of its own, not from the broker."""
    found: dict[str, dict[str, str]] = {}
    for response in (
        await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names]) if names else ()
    ):
        for code, reason, _, name, entries in response.resources:
            if code:
                raise for_code(code)(f"settings of topic {name} could not be read: {reason}")
            found[name] = {entry[0]: entry[1] for entry in entries if entry[3] == OF_TOPIC}
    return found


async def existing_topics(access: KafkaAccess) -> set[str]:
    """Names of the topics that this user may describe."""
    admin = AIOKafkaAdminClient(**access.options)
    await admin.start()
    try:
        return set(await admin.list_topics())
    finally:
        await admin.close()


def max_record_bytes(topic: str) -> int:
    """Largest record of a topic in bytes. A dead letter holds a whole original record and the reason."""
    return 2 * MAX_RECORD_BYTES if topic.endswith(".dlq") else MAX_RECORD_BYTES


def _new_topic(topic: Topic, sizes: TopicSizes) -> NewTopic:
    configs = {"cleanup.policy": topic.cleanup, "max.message.bytes": str(max_record_bytes(topic.name))}
    if topic.cleanup != "compact":
        configs["retention.ms"] = str(topic.retention_s * 1000)
    if topic.forget_s is not None:
        # KIP-354: the cleaner takes the segment in use after this time, too. By default it waits until half of the log is old.
        configs |= {"max.compaction.lag.ms": str(topic.forget_s * 1000), "min.cleanable.dirty.ratio": "0.01"}
    if sizes.replication > 1:
        configs["min.insync.replicas"] = str(sizes.replication - 1)
    return NewTopic(topic.name, sizes.partitions(topic), sizes.replication, topic_configs=configs)
