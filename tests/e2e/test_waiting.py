"""`Prefer: wait` is answered when the job has ended, when the time is over, or when the gateway stops."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

import aiohttp
import pytest

from cli.client import Client
from contracts import to_record
from services.job_orchestrator.core.decide import Start
from shared import clock
from shared.kafka.clients import make_producer
from tests.conftest import Pipeline
from tests.e2e.outside import OWNER, submit
from tests.e2e.test_gateway import session_with
from tests.eventually import eventually
from tests.pipelines import RestartablePipeline
from tests.unit.orchestration import Drive, workflow

pytestmark = pytest.mark.kafka


def waiting(seconds: str) -> dict[str, str]:
    return {"prefer": f"respond-async, wait={seconds}"}


async def known(client: Client, job_id: str) -> bool:
    try:
        return bool(await client.call("GET", f"/v1/jobs/{job_id}"))
    except Exception:
        return False


async def test_the_answer_comes_when_the_job_has_ended(client: Client) -> None:
    session = await session_with(client, "email-order-4471.eml")
    made = await client.call(
        "POST", "/api/job/create", headers=waiting("30"), json={"session_id": session, "workflow": "documents"}
    )
    assert made["stage"] == "completed"
    found = await client.call("GET", f"/v1/jobs/{made['job_id']}", headers=waiting("30"))
    assert found["stage"] == "completed"


async def test_a_short_wait_is_answered_with_the_current_state(pipeline: Pipeline, client: Client) -> None:
    job_id = await submit(pipeline, "test-slow")  # no worker takes this action
    await eventually(lambda: known(client, job_id))
    started = time.monotonic()
    found = await client.call("GET", f"/v1/jobs/{job_id}", headers=waiting("1"))
    assert found["stage"] == "in_progress" and 0.9 < time.monotonic() - started < 10
    started = time.monotonic()
    for useless in ("x", "-3", ""):
        await client.call("GET", f"/v1/jobs/{job_id}", headers=waiting(useless))
    assert time.monotonic() - started < 1
    await client.call("POST", f"/api/job/cancel/{job_id}")


async def test_an_unknown_job_is_not_waited_for(client: Client) -> None:
    async with client.http.get(f"{client.target.url}/v1/jobs/{clock.new_root()}", headers=waiting("30")) as answer:
        assert answer.status == 404


async def test_a_stopping_gateway_answers_waiting_requests(restartable: RestartablePipeline) -> None:
    async with Client(restartable.target()) as client:
        job_id = await submit(restartable, "noop-five")
        await eventually(lambda: known(client, job_id))
        # A job that cannot end: its action has no worker.
        target = restartable.target()
        session = await session_with(client, "email-order-4471.eml")
        os.kill(restartable.state["pids"]["stage_worker"], signal.SIGSTOP)
        try:
            made = await client.call("POST", "/api/job/create", json={"session_id": session, "workflow": "documents"})
            url, key = f"{target.url}/v1/jobs/{made['job_id']}", {"authorization": f"Bearer {target.key}"}
            async with aiohttp.ClientSession(headers=key) as http:
                asking = asyncio.create_task(http.get(url, headers=waiting("60")))
                done, _ = await asyncio.wait({asking}, timeout=1)
                assert not done
                os.kill(restartable.state["pids"]["ingest"], signal.SIGTERM)
                answer = await asyncio.wait_for(asking, 10)
                assert answer.status == 200 and (await answer.json())["stage"] != "completed"
                assert answer.headers["preference-applied"] == "wait=60"
        finally:
            os.kill(restartable.state["pids"]["stage_worker"], signal.SIGCONT)


async def test_an_end_comes_with_the_last_of_its_files(pipeline: Pipeline, client: Client) -> None:
    """After an outage of the broker, a job's end may arrive before its files'. No client gets `completed` without results."""
    ours, theirs = ended_elsewhere()
    job_id = ours[0].event.job_id
    await publish(pipeline, "job.events", ours)
    await eventually(lambda: known(client, job_id))

    async def held() -> bool:
        return bool((await client.call("GET", f"/v1/jobs/{job_id}"))["ending"])

    await eventually(held)
    found = await client.call("GET", f"/v1/jobs/{job_id}", headers=waiting("1"))
    assert found["stage"] != "completed" and found["waiting"]["code"] == "results_pending", found
    answer = asyncio.create_task(client.call("GET", f"/v1/jobs/{job_id}", headers=waiting("30")))
    await publish(pipeline, "file.events", theirs)
    found = await answer
    assert found["stage"] == "completed" and found["waiting"] is None and found["ending"] is None
    assert [f["status"] for f in found["files"]] == ["finished", "finished"]


def ended_elsewhere() -> tuple[list[Any], list[Any]]:
    """The events of an ended job of the default tenant and of its two files."""
    drive = Drive(workflow({}), files=2, job_id=clock.new_root())
    request = drive.start.request
    files = tuple(f.model_copy(update={"blob_name": f"{OWNER.tenant_id}/ab/{f.file_id}"}) for f in request.files)
    drive.start = Start(request.model_copy(update={"owner": OWNER, "files": files}), drive.flow)
    drive.feed(drive.start)
    for task in list(drive.tasks):
        drive.report(task)
    return [e for e in drive.events if e.event.KIND == "job_event"], [e for e in drive.events if e.event.KIND != "job_event"]


async def publish(pipeline: Pipeline, topic: str, events: list[Any]) -> None:
    """Publish events to their topic."""
    producer = await make_producer(pipeline.access, "test")
    for event in events:
        record = to_record(event, "/stageline/job_orchestrator")
        await producer.send_and_wait(topic, record.value, record.key, headers=list(record.headers))
    await producer.stop()
