"""Access of an outside program to the pipeline: a producer, a reader of topics, a client of the stream."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaConnectionError

from cli.client import Client
from contracts import CreateJob, JobRequest, Tenancy, derived, to_record
from shared import clock
from shared.kafka.clients import make_producer
from shared.kafka.connection import KafkaAccess
from tests.conftest import Pipeline
from tests.eventually import eventually

OWNER = Tenancy(tenant_id="default", tenant_name="Default", user_name="test")


async def submit(pipeline: Pipeline, workflow: str) -> str:
    """Publish a CreateJob as an outside producer does."""
    producer = await make_producer(pipeline.access, "test")
    job_id = clock.new_root()
    command = CreateJob(
        command_id=derived(job_id, "c"), job_id=job_id, owner=OWNER, issued_at=clock.now(), job=JobRequest(workflow=workflow)
    )
    record = to_record(command, "/test")
    await producer.send_and_wait("job.commands", record.value, record.key, headers=list(record.headers))
    await producer.stop()
    return job_id


async def _started(kafka: KafkaAccess, topics: tuple[str, ...]) -> Any:
    """A running consumer, or None while the broker is down."""
    consumer = AIOKafkaConsumer(*topics, **kafka.options, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest")
    try:
        await consumer.start()
    except KafkaConnectionError:
        await consumer.stop()
        return None
    return consumer


async def read_all(pipeline: Pipeline, *topics: str) -> list[Any]:
    """Every record of some topics, up to their current ends."""
    return await read_from(pipeline.access, *topics)


async def read_from(kafka: KafkaAccess, *topics: str) -> list[Any]:
    """As `read_all`, from any broker."""
    consumer = await eventually(lambda: _started(kafka, topics), 60, 0.5)
    found = []
    ends = await consumer.end_offsets(consumer.assignment())
    missing = {tp for tp, end in ends.items() if end > 0}
    while missing:
        for tp, records in (await consumer.getmany(timeout_ms=500)).items():
            found += records
            if records[-1].offset + 1 >= ends[tp]:
                missing.discard(tp)
    await consumer.stop()
    return found


async def written(pipeline: Pipeline, topic: str) -> int:
    """Number of records ever written to a topic, from its offsets."""
    consumer = await eventually(lambda: _started(pipeline.access, (topic,)), 60, 0.5)
    ends = await consumer.end_offsets(consumer.assignment())
    await consumer.stop()
    return sum(ends.values())


async def sse(client: Client, query: dict[str, str], cursor: str | None = None) -> AsyncIterator[tuple[str | None, str, Any]]:
    headers = {"last-event-id": cursor} if cursor else {}
    async with client.http.get(client.target.notifier_url + "/events/stream", params=query, headers=headers) as answer:
        assert answer.status == 200
        item: dict[str, str] = {}
        async for raw in answer.content:
            name, _, value = raw.decode().rstrip("\n").partition(": ")
            if name:
                item[name] = value
            elif "data" in item:
                yield item.get("id"), item["event"], json.loads(item["data"])
                item = {}
