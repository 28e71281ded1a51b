"""Thousands of hostile records on every topic: dead-lettered with a reason, and nobody else waits for them."""

from __future__ import annotations

import asyncio
import json
import random
import time

import pytest

from cli.client import Client
from contracts import Topic, all_topics, dead_letter_topic
from contracts.topics import TASK_PREFIX
from shared.kafka.clients import make_producer
from tests.conftest import Pipeline
from tests.e2e.outside import read_all, submit, written
from tests.e2e.test_gateway import ended
from tests.eventually import eventually
from tests.pipelines import RestartablePipeline

pytestmark = [pytest.mark.kafka, pytest.mark.chaos]
GROUPS = {
    "session.commands": ["session"], "session.events": ["ingest", "job_orchestrator", "notifier"], "job.commands": ["job_orchestrator"],
    "operator.commands": ["job_orchestrator"],
    "job.events": ["ingest", "notifier"], "file.events": ["ingest", "notifier"], "stage.reports": ["job_orchestrator"],
    "access.events": ["ingest-access", "notifier-access"], "job.state": [],
    "job.answers": ["ingest"], "stage.refusals": [], "stage.workers": ["job_orchestrator", "ingest"], "dispatch.backlog": ["ingest"],
    "workflow.events": ["ingest"], "job.erasures": ["ingest", "session", "notifier"], "schedule.state": ["ingest"],
    "webhook.commands": ["notifier"], "webhook.answers": ["ingest"],
}  # fmt: skip


def hostile(rng: random.Random, types: list[str]) -> tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]:
    """An unreadable record: noise, wrong JSON, broken envelopes, null and non-UTF-8 headers, wrong types."""
    known = rng.choice(types).encode()
    value = rng.choice(
        [
            None, b"", rng.randbytes(rng.randrange(1, 200)), b"{", b"[]", b"null", b'{"event": 5}', b"[" * rng.randrange(1, 3000),
            json.dumps({"event_id": 1, "event": {"event_name": "job_create_event"}}).encode(), b'{"type": "x", "data": {}}',
            json.dumps({"job_id": "x" * 500, "status": "OK", "attempt": -1}).encode(), "{\"a\": \"\ud800\"}".encode("utf-8", "surrogatepass"),
        ]
    )  # fmt: skip
    headers: list[tuple[str, bytes | None]] = rng.choice(
        [[], [("ce_type", known)], [("ce_type", b"\xff\xfe")], [("x", b""), ("ce_type", known)], [("content-type", b"application/cloudevents+json")],
         [("ce_type", known), ("traceparent", b"\xff")], [("ce_type", b"stageline.unknown.v9")]]
    )  # fmt: skip
    key = rng.choice([None, b"", b"k", rng.randbytes(10)]) if value is not None else b"k"
    return key, value, headers


async def pour(pipeline: Pipeline, rng: random.Random, topic: Topic, count: int) -> int:
    """Publish hostile records to one topic, in chunks, so that this process does not delay the normal jobs. Returns the number that must
    become dead letters. A tombstone of a compacted topic is valid, so it is not counted."""
    producer = await make_producer(pipeline.access, "hostile")
    types = [m.TYPE for m in topic.models]
    tombstones = 0
    for start in range(0, count, 500):
        futures = []
        for _ in range(start, min(start + 500, count)):
            key, value, headers = hostile(rng, types)
            # Kafka itself refuses a record without a key on a compacted topic.
            key = key or (b"k" if "compact" in topic.cleanup else None)
            tombstones += value is None and topic.cleanup == "compact"
            futures.append(await producer.send(topic.name, value, key, headers=headers))
        await asyncio.gather(*futures)
    await producer.stop()
    return count - tombstones


async def lacking(pipeline: Pipeline, topic: str, group: str, sent: int) -> int:
    """Number of records of `topic` that the group has not dead-lettered yet. Each dead letter must name its reason and origin."""
    name = dead_letter_topic(topic, group)
    if (so_far := await written(pipeline, name)) < sent:
        return sent - so_far  # reads new records alone, to leave CPU time to the services
    letters = await read_all(pipeline, name)
    for letter in letters:
        headers = dict(letter.headers)
        assert headers["dlq-code"] and headers["dlq-reason"] and headers["dlq-original-topic"].decode() == topic
    return sent - len({dict(r.headers)["dlq-id"] for r in letters})


@pytest.mark.timeout(280)
@pytest.mark.parametrize("records", [pytest.param(n, marks=pytest.mark.slow) for n in (800, 10_000)])
async def test_hostile_records_are_parked_and_delay_nobody(restartable: RestartablePipeline, records: int) -> None:
    async with Client(restartable.target()) as client:
        await flood(client, restartable, records)


async def flood(client: Client, pipeline: Pipeline, records: int) -> None:
    """Run normal jobs beside the flood. Fails when one takes more than five seconds."""
    waits: list[float] = []
    stop = asyncio.Event()

    async def normal_work() -> None:
        while not stop.is_set():
            started = time.monotonic()
            job = await ended(client, await submit(pipeline, "noop-five"))
            assert job["stage"] == "completed"
            waits.append(time.monotonic() - started)

    working = asyncio.create_task(normal_work())
    rng = random.Random(4471)
    for topic in (
        t for t in all_topics() if t.name not in ("delivery.events", "stage.cancellations", "secret.events", "seal.keys")
    ):
        count = records if not topic.name.startswith(TASK_PREFIX) else records // 10
        hostile_ones = await pour(pipeline, rng, topic, count)
        for group in GROUPS.get(topic.name, ["stage_worker"]):

            async def parked(name: str = topic.name, group: str = group, count: int = hostile_ones) -> bool:
                return await lacking(pipeline, name, group, count) <= 0

            await eventually(parked, 60, 0.5)
    stop.set()
    await working
    assert waits and max(waits) < 5.0, f"normal jobs took up to {max(waits):.1f} s"
