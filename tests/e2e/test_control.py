"""An operator's commands, through the gateway, the topics and the workers: verbs, waits, limits, and the reasons for waiting."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from cli.client import Client, CliError
from cli.commands.submit import submit_files
from contracts import StageReport, TaskStatus
from shared import clock
from stageline_kit import Producer, Task, Worker
from tests.conftest import SAMPLES, Pipeline
from tests.e2e.outside import read_all
from tests.e2e.test_gateway import ended
from tests.eventually import eventually

pytestmark = pytest.mark.kafka


class Steered:
    """A worker of the action `test.steered` that ends its tasks when the test tells it to."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.worker = Worker(pipeline.kafka, "steered-1", concurrency=50, drain_s=1, **pipeline.as_user())
        self.started: list[str] = []
        self.cancelled: list[str] = []
        self.go = asyncio.Event()
        self.worker.action("test.steered")(self.act)

    async def act(self, task: Task) -> dict[str, Any]:
        self.started.append(task.job_id)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.append(task.job_id)
            raise
        return {"config": task.config}


@contextlib.asynccontextmanager
async def steered(pipeline: Pipeline) -> AsyncIterator[Steered]:
    made = Steered(pipeline)
    running = asyncio.create_task(made.worker.run())
    try:
        yield made
    finally:
        made.worker.stop()
        await running


async def until(look: Callable[[], bool], timeout_s: float) -> None:
    """Wait for a fact of this process."""

    async def seen() -> bool:
        return look()

    await eventually(seen, timeout_s, 0.01)


async def make(client: Client, workflow: str = "test-steered", **more: Any) -> str:
    answer = await client.call("POST", "/v1/jobs", json={"workflow": workflow, **more})
    return str(answer["job_id"])


async def why(client: Client, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = await client.call("GET", f"/v1/jobs/{job_id}/why")
    return found


async def until_why(client: Client, job_id: str, code: str) -> dict[str, Any]:
    async def look() -> Any:
        found = await why(client, job_id)
        return found if found["code"] == code else None

    found: dict[str, Any] = await eventually(look, 20, 0.1)
    return found


async def shown(client: Client, job_id: str) -> dict[str, Any]:
    """The job at the gateway. Its read model may lag behind the worker's task by some milliseconds."""

    async def look() -> Any:
        with contextlib.suppress(CliError):
            return await client.call("GET", f"/v1/jobs/{job_id}")
        return None

    found: dict[str, Any] = await eventually(look, 5)
    return found


async def verb(client: Client, job_id: str, word: str, **body: Any) -> dict[str, Any]:
    found: dict[str, Any] = await client.call("POST", f"/v1/jobs/{job_id}/{word}", json=body)
    return found


async def test_the_life_of_a_job_under_an_operator(client: Client, pipeline: Pipeline) -> None:
    job_id = await make(client)
    found = await until_why(client, job_id, "no_worker")
    assert found["facts"]["action"] == "test.steered" and "no live worker" in found["message"]
    async with steered(pipeline) as worker:
        running = await until_why(client, job_id, "running")
        waiting = (await client.call("GET", f"/v1/jobs/{job_id}"))["waiting"]
        assert (waiting["code"], waiting["facts"]) == (running["code"], running["facts"]), "the job and `why` say the same"
        await _is_seen_with_its_task(client, pipeline, worker, job_id)
        paused = await verb(client, job_id, "pause", reason="look at it first")
        assert paused["paused"]["by"] == "admin"
        with pytest.raises(CliError, match="paused already"):
            await verb(client, job_id, "pause")
        worker.go.set()
        found = await until_why(client, job_id, "job_paused")
        assert found["facts"]["reason"] == "look at it first"
        assert worker.started == [job_id], "no task is dispatched while the job is paused"
        assert (await verb(client, job_id, "resume"))["paused"] is None
        job = await ended(client, job_id)
    assert job["stage"] == "completed" and worker.started == [job_id, job_id]
    history = (await client.call("GET", f"/v1/jobs/{job_id}/history"))["result"]
    verbs = [(e["event"]["verb"], e["event"]["by"]) for e in history if e["event"].get("verb")]
    assert verbs == [("pause", "admin"), ("resume", "admin")]
    assert (await why(client, job_id))["code"] == "ended"
    audit = (await client.call("GET", "/v1/audit"))["result"]
    mine = [(a["verb"], a["ok"]) for a in reversed(audit) if a["job_id"] == job_id]
    assert mine == [("pause", True), ("pause", False), ("resume", True)]


async def _is_seen_with_its_task(client: Client, pipeline: Pipeline, worker: Steered, job_id: str) -> None:
    """By an operator, once the worker has said so."""
    await worker.worker._engine.announce()

    async def held() -> Any:
        found = (await client.call("GET", "/v1/workers"))["result"]
        mine = next((w for w in found if w["worker"] == "steered-1"), None)
        return mine if mine and mine["holds"] else None

    found = await eventually(held, 10, 0.1)
    assert found["state"] == "live" and [t["job_id"] for t in found["holds"]] == [job_id]
    page = (await asyncio.to_thread(pipeline.command, "workers", "list")).stdout
    assert "steered-1" in page and job_id in page, page


async def _without_worker(client: Client) -> bool:
    lines = (await client.call("GET", "/v1/backlog"))["lines"]
    return any(x["action"] == "test.steered" and x["no_worker_since"] for x in lines)


@pytest.mark.parametrize(("word", "stage"), [("cancel", "cancelled"), ("terminate", "failed")])
async def test_a_job_that_is_ended_early_stops_its_workers(client: Client, pipeline: Pipeline, word: str, stage: str) -> None:
    async with steered(pipeline) as worker:
        job_id = await make(client)
        await until(lambda: job_id in worker.started, 20)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        assert (await verb(client, job_id, word, reason="not wanted"))["stage"] == stage
        await until(lambda: job_id in worker.cancelled, 5)
        assert loop.time() - begun < 1.0, "the worker gets the cancellation within a second"
    with pytest.raises(CliError, match="has ended"):
        await verb(client, job_id, word)
    record = await client.call("GET", f"/v1/jobs/{job_id}")
    assert record["error_messages"][-1].endswith("by admin: not wanted")


async def test_limits_pauses_and_priorities_hold_and_are_explained(client: Client, pipeline: Pipeline) -> None:
    async def control(**body: Any) -> None:
        await client.call("PUT", "/v1/controls/action/test.steered", json=body)

    await control(limit=1, reason="one at a time")
    try:
        async with steered(pipeline) as worker:
            first = await make(client)
            await until(lambda: worker.started == [first], 20)
            low = await make(client, priority="low")
            high = await make(client, priority="high")
            found = await why(client, low)
            assert found["code"] == "action_limit" and found["facts"]["limit"] == found["facts"]["in_flight"] == 1
            await control(limit=None, paused=True, reason="night")
            found = await why(client, high)
            assert found["code"] == "action_paused" and found["facts"]["reason"] == "night"
            worker.go.set()
            await until_why(client, first, "action_paused")
            assert worker.started == [first]
            await control(paused=False, limit=1)
            for job_id in (first, high, low):
                assert (await ended(client, job_id))["stage"] == "completed"
            order = [j for j in worker.started if j != first]
            assert order[0] == high and order[-1] == low, "the higher priority goes first"
    finally:
        await control(limit=None, paused=False)


async def test_the_backlog_shows_waiting_tasks_and_when_they_will_be_done(client: Client, pipeline: Pipeline) -> None:
    await client.call("PUT", "/v1/controls/action/test.steered", json={"paused": True, "reason": "holiday"})
    try:
        jobs = [await make(client) for _ in range(3)]

        async def line() -> Any:
            # The backlog is published every few seconds, so the first one may still show the pause of the test before.
            lines = (await client.call("GET", "/v1/backlog"))["lines"]
            told = (x for x in lines if x["action"] == "test.steered" and x["waiting"] >= 3)
            return next((x for x in told if "holiday" in x["gate_message"]), None)

        found = await eventually(line, 20, 0.2)
        assert found["gate"] == "paused" and found["oldest_age_s"] >= 0
        # The worker of an earlier test has left; what it said when it did is read within seconds.
        await eventually(lambda: _without_worker(client), 40, 0.5)
        page = (await asyncio.to_thread(pipeline.command, "backlog")).stdout
        assert "no worker since" in page or "no worker ever" in page, page
        for job_id in jobs:
            await verb(client, job_id, "cancel")
    finally:
        await client.call("PUT", "/v1/controls/action/test.steered", json={"paused": False})


async def test_a_step_that_is_a_job_of_its_own(client: Client, pipeline: Pipeline) -> None:
    async with steered(pipeline) as worker:
        parent = await submit_files(client, [SAMPLES / "email-order-4471.eml"], {"workflow": "test-parent"})
        found = await until_why(client, parent, "child_job")
        child = found["facts"]["job"].removeprefix("job ")
        await until(lambda: child in worker.started, 20)
        assert (await shown(client, child))["parent_job_id"] == parent
        await verb(client, parent, "cancel")
        assert (await ended(client, child))["stage"] == "cancelled", "with its parent"
        await until(lambda: child in worker.cancelled, 5)
        worker.go.set()
        again = await submit_files(client, [SAMPLES / "email-order-4471.eml"], {"workflow": "test-parent"})
        assert (await ended(client, again))["stage"] == "completed"


async def test_only_what_failed_is_run_again(client: Client, pipeline: Pipeline) -> None:
    files = [SAMPLES / "contract-nda.pdf", SAMPLES / "email-order-4471.eml"]
    job_id = await submit_files(client, files, {"workflow": "test-broken"})
    job = await ended(client, job_id)
    assert job["stage"] == "completed" and [f["status"] for f in job["files"]].count("failed") == 1
    made = await verb(client, job_id, "rerun", only="failed", args={"breaks": {"fail": None}}, reason="fixed")
    again = await ended(client, made["job_id"])
    assert again["rerun_of"] == job_id and again["finished_files"] == 2, again
    assert {(f["status"], f["code"], f["message"]) for f in again["files"]} == {("finished", None, None)}
    kept = await client.call("GET", f"/api/job/detail/{job_id}")
    assert [(f["id"], f["status"], f["code"]) for f in kept["files"]] == [(f["id"], f["status"], f["code"]) for f in job["files"]]
    topics = ("stage.tasks.test.outcome", "stage.tasks.noop")
    tasks = [json.loads(r.value) for topic in topics for r in await read_all(pipeline, topic)]
    ran = [(t["step"], t["file"]["file_name"]) for t in tasks if t["job_id"] == made["job_id"]]
    assert ran == [("breaks", "email-order-4471.eml"), ("last", "email-order-4471.eml")], "finished steps are not run again"
    with pytest.raises(CliError, match="no file of the job"):
        await verb(client, made["job_id"], "rerun", only="failed")


async def test_refused_reports_are_published(client: Client, pipeline: Pipeline) -> None:
    async with steered(pipeline) as worker:
        job_id = await make(client)
        await until(lambda: job_id in worker.started, 20)
        task = next(
            json.loads(r.value) for r in await read_all(pipeline, "stage.tasks.test.steered") if job_id.encode() in r.value
        )
        names = ("job_id", "tenant_id", "step", "action")
        report = StageReport(
            report_id=clock.new_root(), reported_at=clock.now(), status=TaskStatus.OK, worker="forger", duration_ms=5.0, lease="forged",
            attempt=1, **{n: task[n] for n in names},
        )  # fmt: skip
        async with Producer(pipeline.kafka, "/test", **pipeline.as_user()) as producer:
            await producer.publish(report)

        async def refused() -> Any:
            found = [json.loads(r.value) for r in await read_all(pipeline, "stage.refusals")]
            return next((f for f in found if f["report_id"] == report.report_id), None)

        found = await eventually(refused, 20, 0.3)
        assert (found["reason"], found["worker"], found["duration_ms"]) == ("stale_attempt", "forger", 5.0)
        await verb(client, job_id, "cancel")


async def test_an_open_session_is_explained_as_one(client: Client, pipeline: Pipeline) -> None:
    session_id = (await client.call("POST", "/api/deferred/create", json={}))["session_id"]
    found = json.loads(pipeline.command("why", session_id, "--json").stdout)
    assert found["code"] == "session_open" and found["changes_at"] == found["facts"]["expires_at"]
    with pytest.raises(CliError, match="does not exist"):
        await why(client, "nobody")
