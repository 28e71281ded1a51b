"""The kit on real Kafka: dead letters, spans, a cancelled task, and a worker that finishes its tasks before it stops."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aiokafka import ConsumerRecord, TopicPartition

from cli.client import Client
from contracts import DeliveryAttempted, to_record
from contracts.topics import DELIVERY_EVENTS_TOPIC, dead_letters_of
from shared import clock
from shared.kafka.topics import TopicSizes, ensure_topics
from stageline_kit import Consumer, Event, Gap, Producer
from tests.conftest import Pipeline
from tests.contracts.examples import example
from tests.e2e.outside import read_all, submit
from tests.eventually import eventually
from tests.unit.test_kit import stage_update

pytestmark = pytest.mark.kafka


async def test_unreadable_records_are_dead_lettered_and_repeats_dropped(pipeline: Pipeline) -> None:
    group = f"kit-{clock.new_root()}"
    await ensure_topics(pipeline.access, [dead_letters_of(DELIVERY_EVENTS_TOPIC, group)], TopicSizes(1, 1, 1))
    mine = example(DeliveryAttempted).model_copy(update={"attempt_id": clock.new_root(), "tenant_id": group})
    async with Producer(pipeline.kafka, "/test", **pipeline.as_user()) as producer:
        await producer.send_raw("delivery.events", b"k", b"\xff", [("ce_type", b"?"), ("ce_tenant", group.encode())])
        for _ in range(3):
            await producer.publish(mine)
    found: list[Event] = []
    async with (
        Consumer(pipeline.kafka, group, ["delivery.events"], tenant=group, dead_letters=True, **pipeline.as_user()) as consumer,
        asyncio.timeout(30),
    ):
        async for batch in consumer:
            found += batch.events
            await batch.commit()
            if found:
                break
        assert consumer.unreadable == 1
    assert [event.message for event in found] == [mine]
    [letter] = await read_all(pipeline, f"delivery.events.{group}.dlq")
    assert letter.value == b"\xff" and dict(letter.headers)["dlq-original-topic"] == b"delivery.events"
    async with Consumer(pipeline.kafka, group, ["delivery.events"], **pipeline.as_user()) as again:
        records = await again._consumer.getmany(timeout_ms=2000)
        assert not [r for rs in records.values() for r in rs if dict(r.headers).get("ce_tenant") == group.encode()], "committed"


async def test_gaps_are_detected(pipeline: Pipeline) -> None:
    consumer = Consumer(pipeline.kafka, "unused", ["job.events"], **pipeline.as_user())
    job = clock.new_root()

    def record(sequence: int, offset: int) -> ConsumerRecord[Any, Any]:
        made = to_record(stage_update(job, sequence), "/t")
        return ConsumerRecord("job.events", 0, offset, 0, 0, made.key, made.value, None, 0, 0, made.headers)

    batch = await consumer._batch({TopicPartition("job.events", 0): [record(n, o) for o, n in enumerate((3, 4, 4, 7, 8))]})
    assert batch.gaps == [Gap(job, 5, 7)] and [e.sequence for e in batch] == [3, 4, 7, 8]
    assert list(batch.offsets.values()) == [5]
    await consumer._consumer.stop()


SPANS = """
import json
import os
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from stageline_kit import Event
from tests.unit.test_kit import stage_update
exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
carried = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
with Event(stage_update("j", 2), "job.events", 3, 7, (("traceparent", carried.encode()),)).processing("billing") as context:
    passed_on = context
[span] = exporter.get_finished_spans()
print(json.dumps({"name": span.name, "kind": span.kind.name, "attributes": dict(span.attributes), "trace": f"{span.context.trace_id:032x}",
                  "parent": f"{span.parent.span_id:016x}", "passed_on": passed_on}))
"""


def test_handling_an_event_is_a_span_of_the_jobs_trace() -> None:
    out = subprocess.run([sys.executable, "-c", SPANS], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    span = json.loads(out.stdout or out.stderr)
    assert (span["name"], span["kind"], span["trace"], span["parent"]) == ("process job.events", "CONSUMER", "ab" * 16, "cd" * 8)
    assert span["passed_on"].startswith("00-" + "ab" * 16) and span["passed_on"].split("-")[2] != "cd" * 8
    assert span["attributes"]["messaging.consumer.group.name"] == "billing" and span["attributes"]["messaging.kafka.offset"] == 7


async def test_a_task_is_cancelled_and_another_finishes_before_the_worker_stops(
    pipeline: Pipeline, client: Client, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    command = [sys.executable, "-m", "tests.e2e.slow_worker", pipeline.kafka, str(notes)]
    worker = await asyncio.create_subprocess_exec(
        *command,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **pipeline.settings("--role", "worker", "--actions", "acme.slow")},
    )

    def noted(word: str) -> Any:
        async def look() -> bool:
            return notes.exists() and word in notes.read_text().splitlines()

        return look

    first = await submit(pipeline, "test-slow")
    await eventually(noted(f"started {first}"), 40)
    record = await client.call("GET", f"/v1/jobs/{first}")
    assert record["stage"] == "in_progress"
    await client.call("POST", f"/api/job/cancel/{first}")
    await eventually(noted(f"cancelled {first}"), 10)
    second = await submit(pipeline, "test-slow")
    await eventually(noted(f"started {second}"), 20)
    worker.terminate()
    notes.with_suffix(".go").touch()
    assert await asyncio.wait_for(worker.wait(), 20) == 0, (await worker.stderr.read()).decode() if worker.stderr else ""
    assert f"finished {second}" in notes.read_text()

    async def completed() -> bool:
        return bool((await client.call("GET", f"/api/job/detail/{second}"))["stage"] == "completed")

    await eventually(completed, 20)
    assert (await client.call("GET", f"/api/job/detail/{first}"))["stage"] == "cancelled"
