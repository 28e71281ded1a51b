"""Several processes of every service on one PostgreSQL: killed, stopped and continued in the middle of the work."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections import Counter
from pathlib import Path

import asyncpg
import pytest

from cli.client import Client
from cli.commands.submit import submit_files
from tests.chaos.conftest import COPIES
from tests.chaos.test_kills import check_topics
from tests.conftest import Pipeline
from tests.e2e.outside import read_all
from tests.eventually import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.chaos, pytest.mark.slow]
JOBS, FILES = 40, 5
ACTIONS = ["file.fetch", "text.extract", "fields.extract", "result.package"]


async def submit_jobs(client: Client, folder: Path) -> list[str]:
    folder.mkdir()
    files = []
    for n in range(FILES):
        files.append(folder / f"note-{n}.txt")
        files[-1].write_text(f"Invoice No: N-{n}\nDate: 2026-01-02\nTotal due: EUR {n}.50\n")
    return [await submit_files(client, files, {"workflow": "documents", "metadata": None}) for _ in range(JOBS)]


async def ended_rightly(client: Client, jobs: list[str]) -> bool:
    found = [await client.call("GET", f"/api/job/detail/{job}") for job in jobs]
    assert not [j for j in found if j["stage"] in ("failed", "invalid", "cancelled")]
    if not all(j["stage"] == "completed" for j in found):
        return False
    return all(Counter(f["status"] for f in j["files"]) == {"finished": FILES} for j in found)


async def rows(database: str) -> dict[str, int]:
    """What must be empty once everything is at rest."""
    connection = await asyncpg.connect(database)
    try:
        counts = {s: await connection.fetchval(f"SELECT count(*) FROM {s}.outbox_batch") for s in COPIES if s != "stage_worker"}
        counts["timers"] = await connection.fetchval("SELECT count(*) FROM job_orchestrator.lane WHERE due_at IS NOT NULL")
        counts["ready"] = await connection.fetchval("SELECT count(*) FROM job_orchestrator.ready")
        balance = "SELECT count(*) FROM (SELECT sum(n) AS n FROM job_orchestrator.flight GROUP BY kind, name) x WHERE n <> 0"
        counts["credits"] = await connection.fetchval(balance)
        return counts
    finally:
        await connection.close()


@pytest.mark.timeout(330)
@pytest.mark.parametrize("blow", ["kill", "stop", "restart"])
async def test_replicas_lose_and_double_nothing(scaled: Pipeline, database: str, tmp_path: Path, blow: str) -> None:
    async with Client(scaled.target()) as client:
        submitting = asyncio.create_task(submit_jobs(client, tmp_path / "documents"))
        blows: list[float] = []
        victims = (
            ["job_orchestrator", "job_orchestrator-2", "job_orchestrator-3"]
            if blow == "restart"
            else [f"{name}-2" for name in list(COPIES)[1:]]
        )
        for name in victims:
            # One process of each service is killed or stopped past its session, or the orchestrators in sequence. The gateway is not touched.
            pid = scaled.state["pids"][name]
            os.kill(pid, {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "restart": signal.SIGTERM}[blow])
            blows += [time.time()] if "orchestrator" in name else []
            await asyncio.wait_for(asyncio.shield(asyncio.wait({submitting}, timeout=2.5)), 10)
            if blow == "stop":
                await asyncio.wait({submitting}, timeout=11)
                os.kill(pid, signal.SIGCONT)
        jobs = await submitting

        async def done() -> bool:
            return await ended_rightly(client, jobs)

        await eventually(done, 180)

        async def at_rest() -> bool:
            return not any((await rows(database)).values())

        await eventually(at_rest, 30)
    for job in jobs:
        await check_topics(scaled, job, FILES)
    shown = ", ".join(f"{longest:.1f} s" for longest in await waits(scaled, blows))
    print(f"\n{blow}: the report that waited longest for an orchestrator after each blow at one: {shown}")
    verified = scaled.command("verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr


async def waits(pipeline: Pipeline, blows: list[float]) -> list[float]:
    """For each blow the longest time, in seconds, that a worker's OK after it (or unanswered when it fell) waited for what the orchestrators
    decide of it: the next task, or the file's end. What nobody has work for does not count."""
    answers: dict[str, list[float]] = {}
    for record in await read_all(pipeline, "file.events", *(f"stage.tasks.{action}" for action in ACTIONS)):
        if dict(record.headers)["ce_source"] == b"/stageline/job_orchestrator":
            job = record.key.decode() if record.topic == "file.events" else json.loads(record.value)["job_id"]
            answers.setdefault(job, []).append(record.timestamp / 1000)
    longest = [0.0] * len(blows)
    for record in await read_all(pipeline, "stage.reports"):
        report, at = json.loads(record.value), record.timestamp / 1000
        answered = next((t for t in sorted(answers.get(report["job_id"], [])) if t >= at), None)
        if report["status"] != "OK" or answered is None or answered < blows[0]:
            continue
        blow = max(n for n, fell in enumerate(blows) if fell <= max(at, blows[0]))
        longest[blow] = max(longest[blow], answered - max(at, blows[blow]))
    return longest
