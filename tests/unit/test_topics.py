"""Creating topics: a starting cluster is retried, permanent errors are raised, and each kind of topic has its partitions."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import InvalidReplicationFactorError, InvalidTopicError, KafkaConnectionError

from cli.local.plan import Plan
from contracts.content import CONTENT, content_of
from contracts.topics import (
    JOB_EVENTS_TOPIC,
    STAGE_WORKERS_TOPIC,
    TOPICS,
    TRANSIT_S,
    task_topic,
    tenant_commands_topic,
    tenant_events_topic,
)
from shared.kafka import topics
from shared.kafka.connection import KafkaAccess

REPLICATION, TOPIC_NAME = 38, 17


class Cluster:
    """Answers each attempt to create topics with the next of `codes`, then with 0. Exceptions among them are raised when it starts."""

    def __init__(self, codes: list[int | Exception]) -> None:
        self.codes = codes
        self.attempts = self.closed = 0
        self.created: dict[str, int] = {}
        """Partitions of each new topic."""

    def __call__(self, **_: Any) -> Any:
        async def start() -> None:
            self.attempts += 1
            if self.codes and isinstance(self.codes[0], Exception):
                raise self.codes.pop(0)  # type: ignore[misc]

        async def list_topics() -> list[str]:
            return []

        async def create_topics(topics: list[Any]) -> Any:
            self.created |= {t.name: t.num_partitions for t in topics}
            code = self.codes.pop(0) if self.codes else 0
            return SimpleNamespace(topic_errors=[(t.name, code, None) for t in topics])

        async def close() -> None:
            self.closed += 1

        return SimpleNamespace(start=start, list_topics=list_topics, create_topics=create_topics, close=close)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_time(_: float) -> None:
        return None

    monkeypatch.setattr(topics.asyncio, "sleep", no_time)


async def attempt(monkeypatch: pytest.MonkeyPatch, cluster: Cluster, patience_s: float) -> None:
    monkeypatch.setattr(topics, "AIOKafkaAdminClient", cluster)
    await topics.ensure_topics(KafkaAccess(), [JOB_EVENTS_TOPIC], topics.TopicSizes(6, 2, 3), patience_s)


async def test_a_cluster_with_too_few_brokers_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster([REPLICATION, KafkaConnectionError(), REPLICATION])
    await attempt(monkeypatch, cluster, 60)
    assert cluster.attempts == cluster.closed == 4


async def test_retries_end_with_the_last_error(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster([REPLICATION] * 3)
    with pytest.raises(InvalidReplicationFactorError, match=r"job\.events"):
        await attempt(monkeypatch, cluster, 0)
    assert cluster.attempts == cluster.closed == 1


async def test_a_permanent_error_is_raised_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster([TOPIC_NAME])
    with pytest.raises(InvalidTopicError, match=r"job\.events"):
        await attempt(monkeypatch, cluster, 60)
    assert cluster.attempts == 1


async def test_each_kind_of_topic_has_its_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster([])
    monkeypatch.setattr(topics, "AIOKafkaAdminClient", cluster)
    wanted = [JOB_EVENTS_TOPIC, task_topic("text.ocr"), STAGE_WORKERS_TOPIC]
    await topics.ensure_topics(KafkaAccess(), wanted, topics.TopicSizes(hot=6, tasks=2, replication=1))
    assert cluster.created == {"job.events": 6, "stage.tasks.text.ocr": 2, "stage.workers": 1}


@pytest.mark.parametrize(("workers", "partitions"), [(1, 2), (2, 2), (5, 5)])
def test_a_local_pipeline_has_a_task_partition_for_each_worker(workers: int, partitions: int, tmp_path: Path) -> None:
    assert Plan(tmp_path, workers=workers).task_partitions == partitions


def test_every_topic_says_what_it_holds_of_people_and_for_how_long() -> None:
    assert set(CONTENT) == {topic.name for topic in TOPICS}
    assert all(content_of(t) for t in (task_topic("acme.read"), tenant_commands_topic("acme"), tenant_events_topic("acme")))
    kept = {t.name for t in TOPICS if t.retention_s > TRANSIT_S or t.cleanup == "compact"}
    # Consumers outside read history from the first; the others hold no content, are needed to start, or say what is erased.
    assert kept == {
        "job.events", "file.events", "job.state", "delivery.events", "stage.refusals", "access.events", "workflow.events", "secret.events",
        "schedule.state", "job.erasures", "seal.keys",
    }  # fmt: skip
