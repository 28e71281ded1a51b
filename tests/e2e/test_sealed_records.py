"""A deployment that seals records: everything works as before, topics hold nothing readable, and an erased job's key is gone for good."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from cli.client import Client
from cli.commands.submit import submit_files
from contracts import JobFinished, JobState
from contracts.sealing import SEAL_HEADER, header
from contracts.topics import NEVER_SEALED, TASK_PREFIX, holds_content
from shared.kafka.topics import existing_topics
from stageline_kit import Consumer
from stageline_kit.feed import JobFeed
from stageline_kit.record_seals import RecordSeals
from tests.conftest import Pipeline
from tests.e2e.outside import read_all, sse
from tests.e2e.test_control import make
from tests.e2e.test_gateway import ended
from tests.eventually import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.fixture(scope="module")
async def sealed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pipeline]:
    made = Pipeline(tmp_path_factory.mktemp("sealed"), environment={"STAGELINE_SEAL_RECORDS": "true"})
    await asyncio.to_thread(made.start)
    yield made
    await asyncio.to_thread(made.stop)


@pytest.fixture
async def client(sealed: Pipeline) -> AsyncIterator[Client]:
    async with Client(sealed.target()) as made:
        yield made


async def content_of(pipeline: Pipeline, mark: str) -> list[Any]:
    """Sealed records of all topics, after a check that none of all records shows the mark."""
    topics = sorted(t for t in await existing_topics(pipeline.access) if not t.startswith("__"))
    records = await read_all(pipeline, *topics)
    showing = {r.topic for r in records if mark.encode() in (r.value or b"") or mark.encode() in str(r.headers).encode()}
    assert showing == set()
    ours = [r for r in records if holds_content(r.topic) and r.value and header(r.headers, "ce_type") not in NEVER_SEALED]
    assert {"job.events", "file.events", "session.commands", "session.events", "stage.reports"} <= {r.topic for r in ours}
    assert any(r.topic.startswith(TASK_PREFIX) for r in ours)
    assert {header(r.headers, SEAL_HEADER) is not None for r in ours} == {True}
    return ours


async def check_readers(pipeline: Pipeline, client: Client, mark: str, job_id: str, other: str) -> None:
    """Programs with the kit read as before, and so do streams over HTTP."""
    async with Consumer(pipeline.kafka, f"consumers.{mark}", **pipeline.as_user()) as consumer:
        found: set[str] = set()
        async for batch in consumer:
            found |= {e.job_id for e in batch if isinstance(e.message, JobFinished) and e.job_id}
            if {job_id, other} <= found:
                break
        assert consumer.unreadable == 0
    async for _, name, body in sse(client, {"start": "beginning", "job_id": job_id}):
        if name.startswith("job.create"):
            assert body["event"]["metadata"] == {"mark": mark}
            break


async def test_topics_of_a_sealed_deployment_show_nothing_and_erasure_destroys_the_key(
    sealed: Pipeline, client: Client, tmp_path: Path
) -> None:
    mark = uuid.uuid4().hex
    path = tmp_path / f"{mark}.txt"
    path.write_text(f"Invoice number 471102\nof {mark}\n" * 20)
    job_id = await submit_files(client, [path], {"workflow": "documents", "metadata": {"mark": mark}})
    other = await submit_files(client, [path], {"workflow": "documents", "metadata": {"mark": mark}})
    assert (await ended(client, job_id))["stage"] == (await ended(client, other))["stage"] == "completed"

    async def told() -> bool:
        return {job_id, other} <= {r.key.decode() for r in await read_all(sealed, "job.state")}

    await eventually(told, 20, 0.5)
    ours = await content_of(sealed, mark)
    await check_readers(sealed, client, mark, job_id, other)

    await client.call("DELETE", f"/v1/jobs/{job_id}")
    seals = RecordSeals(sealed.access.options)
    await seals.catch_up()

    async def destroyed() -> bool:
        return all(seals.keys.key(header(r.headers, SEAL_HEADER) or "", job_id) is None for r in ours)

    await eventually(destroyed, 20, 0.2)
    await seals.open_records(ours)
    mine = {r.key.decode() for r in ours if mark.encode() in r.value}
    assert other in mine and job_id not in mine
    await seals.close()
    async with JobFeed(sealed.kafka, **sealed.as_user()) as feed:
        states: dict[str, JobState] = await feed.load()
    assert other in states and job_id not in states
    assert (await client.call("GET", f"/v1/jobs/{other}"))["metadata"] == {"mark": mark}
    assert ", 0 differences" in sealed.command("verify").stdout


async def test_kafka_forgets_the_key_as_it_was_before_the_erasure(sealed: Pipeline, client: Client) -> None:
    job_id = await make(client, "noop-five")
    await ended(client, job_id)
    before = {r.value for r in await read_all(sealed, "seal.keys") if r.value}
    admin = AIOKafkaAdminClient(**sealed.access.options)
    await admin.start()
    await admin.alter_configs(
        [ConfigResource(ConfigResourceType.TOPIC, "seal.keys", {"max.compaction.lag.ms": "1", "cleanup.policy": "compact"})]
    )
    await admin.close()
    await client.call("DELETE", f"/v1/jobs/{job_id}")

    async def erased() -> set[bytes]:
        return before - {r.value for r in await read_all(sealed, "seal.keys") if r.value}

    # The segment in use is closed when the next record comes: here with a further erasure.
    further = await make(client, "noop-five")
    await ended(client, further)
    await client.call("DELETE", f"/v1/jobs/{further}")
    gone = await eventually(erased, 60, 1)
    logs = [path for path in (sealed.data_dir / "kafka").rglob("*") if "seal.keys" in path.parent.name and path.is_file()]
    assert logs

    async def left() -> bool:
        return not any(value in path.read_bytes() for value in gone for path in logs if path.exists() and path.suffix == ".log")

    await eventually(left, 60, 1)
