"""Metrics at an OTLP receiver: their names, and their values compared with the events."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import get_args

import pytest
import yaml

from cli.client import Client
from contracts import CreateJob, JobRequest, derived, to_record
from shared import clock
from shared.kafka.clients import make_producer
from shared.telemetry.metric_names import BUCKETS, Counter, Histogram
from tests.conftest import Pipeline
from tests.e2e.outside import OWNER, written
from tests.e2e.test_gateway import ended
from tests.eventually import eventually
from tests.otlp import MetricsReceiver
from tests.webhook_receiver import Receiver

pytestmark = pytest.mark.kafka
SENT, CONSUMED, DEAD_LETTERS, REPEATED, TRIED = (
    "messaging.client.sent.messages", "messaging.client.consumed.messages", "pipeline.dead_letters", "pipeline.inbox.duplicates",
    "pipeline.webhook.attempts",
)  # fmt: skip
STAGE = "pipeline.job.stage.duration"


def published(pipeline: Pipeline, path: Path) -> tuple[str, str]:
    """A workflow of one step, and the unique name of that step."""
    name = f"measured-{uuid.uuid4().hex[:8]}"
    path.write_text(yaml.safe_dump({"name": name, "version": 1, "steps": [{"name": name, "action": "noop", "scope": "job"}]}))
    done = pipeline.command("workflows", "publish", str(path))
    assert done.returncode == 0, done.stderr
    return name, name


async def publish_commands(pipeline: Pipeline, workflow: str) -> str:
    """Publish the same command for one job twice, and one unreadable record."""
    job_id = clock.new_root()
    command = CreateJob(
        command_id=derived(job_id, "c"), job_id=job_id, owner=OWNER, issued_at=clock.now(), job=JobRequest(workflow=workflow)
    )
    record = to_record(command, "/test")
    producer = await make_producer(pipeline.access, "test")
    for _ in range(2):
        await producer.send_and_wait("job.commands", record.value, record.key, headers=list(record.headers))
    await producer.send_and_wait("job.commands", b"\xff no json", record.key)
    await producer.stop()
    return job_id


async def exported(otlp: MetricsReceiver, *services: str) -> None:
    """Wait until everything that was measured before now has come: the next export may have begun already, the one after it has not."""
    known = {name: otlp.exports[name] for name in services}

    async def came() -> bool:
        return all(otlp.exports[name] >= count + 2 for name, count in known.items())

    await eventually(came, 30, 0.1)


async def same(look: Callable[[], Awaitable[tuple[float, float]]]) -> None:
    """Wait until both are equal: metrics come every two seconds, and other jobs may go on meanwhile."""
    last: tuple[float, float] = (0, 0)

    async def equal() -> bool:
        nonlocal last
        last = await look()
        return last[0] == last[1]

    try:
        await eventually(equal, 20, 0.1)
    except AssertionError:
        assert last[0] == last[1]
        raise


def measured(otlp: MetricsReceiver) -> dict[str, float]:
    """The counters that the test compares, as last exported."""
    return {
        "sent": otlp.value(SENT, "job_orchestrator", messaging__destination__name="job.events"),
        "dead-lettered": otlp.value(DEAD_LETTERS, "job_orchestrator", code="invalid_json"),
        "repeated": otlp.value(REPEATED, "job_orchestrator"),
        "delivered": otlp.value(TRIED, "notifier", outcome="delivered"),
    }


async def test_metrics_are_exported(client: Client, pipeline: Pipeline, otlp: MetricsReceiver, tmp_path: Path) -> None:
    workflow, step = published(pipeline, tmp_path / "w.yaml")
    await exported(otlp, "job_orchestrator", "notifier")
    before, events = measured(otlp), await written(pipeline, "job.events")

    async def grown(name: str) -> float:
        return measured(otlp)[name] - before[name]

    async with Receiver() as receiver:
        made = await client.call("POST", "/v1/webhooks", notifier=True, json={"url": receiver.url, "events": ["job.finished"]})
        receiver.secret = made["secret"]
        await ended(client, await publish_commands(pipeline, workflow))

        async def delivered() -> tuple[float, float]:
            return await grown("delivered"), max(1, len(receiver.received))

        await same(delivered)
        await client.call("DELETE", f"/v1/webhooks/{made['id']}", notifier=True)

    async def once(name: str) -> tuple[float, float]:
        return await grown(name), 1

    async def worked() -> tuple[float, float]:
        return sum(p.count for p in otlp.points(STAGE, "stage_worker", step=step, status="OK")), 1

    async def sent() -> tuple[float, float]:
        there = await written(pipeline, "job.events")
        return await grown("sent"), there - events

    async def consumed() -> tuple[float, float]:
        return otlp.value("pipeline.batch.records", group="ingest"), otlp.value(CONSUMED, group="ingest")

    await same(lambda: once("dead-lettered"))
    await same(lambda: once("repeated"))
    for look in (worked, sent, consumed):
        await same(look)


async def test_every_name_is_declared_and_every_duration_has_the_agreed_buckets(
    client: Client, pipeline: Pipeline, otlp: MetricsReceiver, tmp_path: Path
) -> None:
    await ended(client, await publish_commands(pipeline, published(pipeline, tmp_path / "w.yaml")[0]))
    usual = {
        SENT, CONSUMED, DEAD_LETTERS, REPEATED, STAGE, "messaging.client.operation.duration", "messaging.process.duration", "pipeline.batch.records",
    }  # fmt: skip

    async def come() -> bool:
        return usual <= otlp.names()

    await eventually(come, 20, 0.2)
    assert otlp.names() <= {*get_args(Counter), *get_args(Histogram)}
    for name in (STAGE, "messaging.process.duration", "messaging.client.operation.duration"):
        for point in otlp.points(name):
            assert point.bounds == tuple(map(float, BUCKETS)) and point.count > 0 and 0 < point.value < 3600 * point.count
