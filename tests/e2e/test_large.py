"""Records at Kafka's size limit become dead letters, requests that would exceed it are refused, and no service ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cli.client import Client
from contracts import AddFile, CloseSession, FileRef, JobRequest, OpenSession, to_record
from contracts.topics import all_topics, dead_letter_topic
from services.session.core.session import job_of
from shared import clock
from shared.kafka.clients import make_producer
from tests.conftest import Pipeline
from tests.e2e.outside import OWNER, read_all, submit
from tests.e2e.test_gateway import ended, raw
from tests.eventually import eventually

pytestmark = pytest.mark.kafka
READ_BY = {
    "session.commands": "session",
    "job.commands": "job_orchestrator",
    "stage.reports": "job_orchestrator",
    "file.events": "ingest",
    "stage.tasks.noop": "stage_worker",
}


async def test_records_at_kafkas_limit_are_dead_lettered(client: Client, pipeline: Pipeline) -> None:
    producer = await make_producer(pipeline.access, "large")
    for topic in (t for t in all_topics() if t.name in READ_BY):
        headers = [("ce_type", topic.models[0].TYPE.encode())]
        await producer.send_and_wait(topic.name, b"x" * 1_048_000, b"large", headers=headers)
    await producer.stop()
    for topic_name, group in READ_BY.items():

        async def parked(name: str = dead_letter_topic(topic_name, group)) -> Any:
            return [r for r in await read_all(pipeline, name) if r.key == b"large"]

        (letter,) = await eventually(parked, 30)
        assert dict(letter.headers)["dlq-code"] == b"too_large" and len(letter.value) == 1_048_000
    assert (await ended(client, await submit(pipeline, "noop-five")))["stage"] == "completed"


async def test_metadata_has_a_limit(client: Client) -> None:
    status, body, _ = await raw(client, "POST", "/api/job/create", json={"session_id": "x", "metadata": {"a": "x" * 70_000}})
    assert status == 400 and body["message"].startswith("metadata") and "65536" in body["message"]


@pytest.mark.timeout(100)
async def test_a_session_whose_files_do_not_fit_into_one_record(client: Client, pipeline: Pipeline) -> None:
    session_id = clock.new_root()
    common: dict[str, Any] = {"session_id": session_id, "owner": OWNER, "issued_at": clock.now()}
    fat = {"note": "x" * 60_000}
    files = [FileRef(file_id=clock.new_root(), file_name=f"{n}.txt", blob_name="default/aa/bb", metadata=fat) for n in range(12)]
    close = CloseSession(
        command_id=clock.new_root(), job=JobRequest(workflow="noop-five", metadata=fat, propagate_metadata=fat), **common
    )
    commands = [
        OpenSession(command_id=clock.new_root(), **common),
        *(AddFile(command_id=clock.new_root(), file=f, **common) for f in files),
        close,
    ]
    producer = await make_producer(pipeline.access, "large")
    for command in commands:
        record = to_record(command, "/test")
        await producer.send_and_wait("session.commands", record.value, record.key, headers=list(record.headers))
    await producer.stop()

    async def decided() -> Any:
        events = [r for r in await read_all(pipeline, "session.events") if r.key == session_id.encode()]
        return events if len(events) == len(commands) + 1 else None

    types = [dict(r.headers)["ce_type"].decode().split(".")[2] for r in await eventually(decided, 30)]
    assert types == ["opened", *["file_added"] * 12, "files", "closed"]
    job = await ended(client, job_of(session_id))
    assert job["stage"] == "completed" and job["file_count"] == len(job["files"]) == 12


@pytest.mark.slow
@pytest.mark.timeout(280)
async def test_ten_thousand_files_in_one_job(client: Client, pipeline: Pipeline) -> None:
    session_id, count = clock.new_root(), 10_000
    common: dict[str, Any] = {"session_id": session_id, "owner": OWNER, "issued_at": clock.now()}
    commands = [
        OpenSession(command_id=clock.new_root(), **common),
        *(AddFile(command_id=clock.new_root(), file=FileRef(file_id=clock.new_root(), file_name=f"{n}.txt", blob_name="default/x"), **common)
          for n in range(count)),
        CloseSession(command_id=clock.new_root(), job=JobRequest(workflow="test-wide"), **common),
    ]  # fmt: skip
    producer = await make_producer(pipeline.access, "wide")
    records = [to_record(command, "/test") for command in commands]
    sent = [await producer.send("session.commands", r.value, r.key, headers=list(r.headers)) for r in records]
    await asyncio.gather(*sent)
    await producer.stop()

    async def there() -> Any:
        found = (await client.call("GET", "/v1/jobs", params={"workflow": "test-wide@1"}))["result"]
        return found[0] if found and found[0]["stage"] == "completed" else None

    job = await eventually(there, 200, 1)
    assert job["id"] == job_of(session_id) and job["file_count"] == job["finished_files"] == count
    tasks = [r for r in await read_all(pipeline, "stage.tasks.noop") if job["id"].encode() in r.value]
    assert len(tasks) == count + 1, "one task per file, and one of the whole job"
