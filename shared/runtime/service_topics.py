"""The topics of a service: made at its start, and again when one is missing."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Sequence

from aiokafka.errors import KafkaError

from contracts import Topic
from contracts.topics import TASK_PREFIX, dead_letters_of, task_topic
from shared.errors import Retry
from shared.kafka.topics import TopicSizes, ensure_topics, existing_topics
from shared.settings import Settings

START_PATIENCE_S = 60.0
"""How long a start waits for a Kafka cluster that is starting too."""


class ServiceTopics:
    """Makes the topics that a service reads or writes, unless an administrator does (`STAGELINE_CREATE_TOPICS`)."""

    def __init__(self, service: str, settings: Settings) -> None:
        self.service = service
        self.settings = settings
        self.known: list[Topic] = []
        """What the service was started with."""
        self.dead_letters: list[Topic] = []

    async def ensure(self, topics: Iterable[Topic], patience_s: float = 0.0) -> None:
        """Create the missing ones of `topics`. Raises `KafkaError` after `patience_s`."""
        if not self.settings.create_topics:
            return
        settings = self.settings
        sizes = TopicSizes(settings.partitions, settings.task_partitions or settings.partitions, settings.replication_factor)
        # A service's user sees its own topics alone, so that others would seem to be missing.
        mine = [t for t in topics if self.service in (*t.producers, *t.consumers) or t.name.endswith(".dlq")]
        await ensure_topics(settings.kafka, mine, sizes, patience_s)

    async def ensure_at_start(self, topics: Iterable[Topic]) -> None:
        """As `ensure`, with `START_PATIENCE_S` for a cluster that is starting too. Raises `Retry`."""
        try:
            await self.ensure(topics, START_PATIENCE_S)
        except KafkaError as error:
            raise Retry("topics_unavailable", str(error) or repr(error)) from error

    async def make_again(self, names: Collection[str]) -> None:
        """Create known topics, dead-letter topics and task topics of these names. Raises `KafkaError`."""
        topics = [t for t in (*self.known, *self.dead_letters) if t.name in names]
        actions = [name.removeprefix(TASK_PREFIX) for name in names if name.startswith(TASK_PREFIX)]
        await self.ensure({t.name: t for t in (*topics, *map(task_topic, actions))}.values())

    async def missing(self, topics: Sequence[Topic]) -> set[str]:
        """Names of `topics` that still do not exist after `ensure`. Raises `Retry` while Kafka does not answer."""
        try:
            with contextlib.suppress(KafkaError):
                await self.ensure(topics)
            return {t.name for t in topics} - await existing_topics(self.settings.kafka)
        except KafkaError as error:
            raise Retry("kafka_unavailable", repr(error)) from error

    def expect_dead_letters(self, topics: Iterable[Topic], group: str) -> None:
        """Create the dead-letter topics of `group` before the first record is read."""
        self.dead_letters += [dead_letters_of(topic, group) for topic in topics]
