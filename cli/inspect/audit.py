"""Rebuilds jobs from the topics and compares them with the services' databases."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import Any

from cli.inspect.history import access, records, store_of
from contracts import JobState
from contracts.job_events import JOB_EVENTS
from contracts.topics import JOB_EVENTS_TOPIC, JOB_STATE_TOPIC
from services.ingest.inspect import job_records, projected
from services.job_orchestrator.inspect import Job, compared, stored_jobs, unpublished_states
from shared.clock import unix

PATIENCE = 5
"""Comparisons, a second apart, before a difference counts: the latest events may not have arrived yet."""
COMPARED = {"stage", "sequence", "file_count", "workflow", "retries"}
"""Fields of `JobState` that `compared` has too."""


async def patiently(data_dir: Path) -> dict[str, Any]:
    """The result of `compare`, repeated while it finds differences: at most `PATIENCE` times."""
    found = await compare(data_dir)
    for _ in range(PATIENCE):
        if not found["differences"]:
            break
        await asyncio.sleep(1)
        found = await compare(data_dir)
    return found


async def compare(data_dir: Path) -> dict[str, Any]:
    """`{jobs, events, older, differences: [{job_id, what}]}`. `older` counts jobs whose first events
    have left the topic; they cannot be rebuilt and are not compared. The last record of each job on `job.state` is compared too, unless
    it is still to be published. Raises `CliError` when there is no database."""
    orchestrator, gateway = store_of(data_dir, "job_orchestrator"), store_of(data_dir, "ingest")
    try:
        stored: dict[str, Job] = {j.id: j for j in await orchestrator.read(lambda c: stored_jobs(c, only_open=False))}
        # After the jobs: a job that has no mark any more was published as it was read, or newer.
        marked = await orchestrator.read(unpublished_states)
        views = await gateway.read(lambda c: job_records(c, stored))
    finally:
        await orchestrator.close()
        await gateway.close()
    rebuilt, events, older = await _rebuild(access(data_dir), stored)
    states = await _states(access(data_dir), stored)
    differences: list[dict[str, str]] = []
    for job_id, job in sorted(stored.items()):
        if job_id in older:
            continue
        expected = compared(job)
        places = [("its events", rebuilt.get(job_id)), ("the read model", views.get(job_id))]
        if job_id not in marked and unix() - job.updated_at.timestamp() < JOB_STATE_TOPIC.retention_s:
            places.append(("the records of job.state", states.get(job_id)))
        for name, record in places:
            differences += [{"job_id": job_id, "what": what} for what in _differences(expected, record, name)]
    return {"jobs": len(stored), "events": events, "older": len(older), "differences": differences}


async def _rebuild(kafka: Any, stored: dict[str, Job]) -> tuple[dict[str, Any], int, set[str]]:
    rebuilt: dict[str, Any] = {}
    first: dict[str, int] = defaultdict(int)
    count = 0
    async for _, _, event in records(kafka, (JOB_EVENTS_TOPIC,)):
        if not isinstance(event, JOB_EVENTS):
            continue
        count += 1
        job_id, sequence = event.event.job_id, event.event.sequence or 0
        job = stored.get(job_id)
        first.setdefault(job_id, sequence)
        # Events newer than the store's answer would look like differences.
        if job is not None and sequence <= job.sequence:
            rebuilt[job_id] = projected(rebuilt.get(job_id), job_id, event)
    return rebuilt, count, {job_id for job_id, sequence in first.items() if sequence > 1}


async def _states(kafka: Any, stored: dict[str, Job]) -> dict[str, dict[str, Any]]:
    """Job id → its last record on `job.state`."""
    found: dict[str, dict[str, Any]] = {}
    async for _, _, state in records(kafka, (JOB_STATE_TOPIC,)):
        if isinstance(state, JobState) and state.job_id in stored:
            found[state.job_id] = state.model_dump(include=COMPARED) | {"stage": state.stage.value}
    return found


def _differences(expected: dict[str, Any], record: dict[str, Any] | None, name: str) -> list[str]:
    if record is None:
        return [f"{name} know nothing of it"]
    if record["sequence"] > expected["sequence"]:
        return []  # the job has moved on since the store was read
    return [f"{name} say {k} is {record[k]!r}, the store {expected[k]!r}" for k in expected if record[k] != expected[k]]
