"""Rebuilds jobs from the topics and compares them with the services' databases."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import Any

from cli.inspect.history import access, records, store_of
from contracts.job_events import JOB_EVENTS
from contracts.topics import JOB_EVENTS_TOPIC
from services.ingest.inspect import job_records, projected
from services.job_orchestrator.inspect import Job, compared, stored_jobs

PATIENCE = 5
"""Comparisons, a second apart, before a difference counts: the latest events may not have arrived yet."""


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
    have left the topic; they cannot be rebuilt and are not compared. Raises `CliError` when there is no database."""
    orchestrator, gateway = store_of(data_dir, "job_orchestrator"), store_of(data_dir, "ingest")
    try:
        stored: dict[str, Job] = {j.id: j for j in await orchestrator.read(lambda c: stored_jobs(c, only_open=False))}
        views = await gateway.read(lambda c: job_records(c, stored))
    finally:
        await orchestrator.close()
        await gateway.close()
    rebuilt, events, older = await _rebuild(access(data_dir), stored)
    differences: list[dict[str, str]] = []
    for job_id, job in sorted(stored.items()):
        if job_id in older:
            continue
        expected = compared(job)
        for name, record in (("its events", rebuilt.get(job_id)), ("the read model", views.get(job_id))):
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


def _differences(expected: dict[str, Any], record: dict[str, Any] | None, name: str) -> list[str]:
    if record is None:
        return [f"{name} know nothing of it"]
    if record["sequence"] > expected["sequence"]:
        return []  # the job has moved on since the store was read
    return [f"{name} say {k} is {record[k]!r}, the store {expected[k]!r}" for k in expected if record[k] != expected[k]]
