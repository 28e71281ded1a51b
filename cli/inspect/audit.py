"""Jobs rebuilt from the topics, compared with what the services keep."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import Any

from cli.inspect.history import access, jobs, records, store_of
from contracts.job_events import JOB_EVENTS
from contracts.topics import JOB_EVENTS_TOPIC
from services.ingest.adapters.store.read_model import records as view_records
from services.ingest.core import job_view
from services.ingest.core.job_end import with_held_end
from services.job_orchestrator.core.job import Job

COMPARED = ("stage", "sequence", "file_count", "workflow", "retries")
PATIENCE = 5
"""Looked at so often, a second apart, before what differs counts: events of a moment ago may be on their way."""


async def patiently(data_dir: Path) -> dict[str, Any]:
    """What `compare` finds once what is on its way has come."""
    found = await compare(data_dir)
    for _ in range(PATIENCE):
        if not found["differences"]:
            break
        await asyncio.sleep(1)
        found = await compare(data_dir)
    return found


async def compare(data_dir: Path) -> dict[str, Any]:
    """`{jobs, events, older, differences: [{job_id, what}]}`. Jobs whose first events the topic holds no longer are `older`."""
    orchestrator, door = store_of(data_dir, "job_orchestrator"), store_of(data_dir, "ingest")
    try:
        stored: dict[str, Job] = {j.id: j for j in await orchestrator.read(lambda c: jobs(c, only_open=False))}
        views = {i: with_held_end(r) for i, r in (await door.read(lambda c: view_records(c, "job_view", stored))).items()}
    finally:
        await orchestrator.close()
        await door.close()
    rebuilt, events, older = await _rebuild(access(data_dir), stored)
    differences: list[dict[str, str]] = []
    for job_id, job in sorted(stored.items()):
        if job_id in older:
            continue
        expected = _of_store(job)
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
        # Not beyond what the store had said when we asked it.
        if job is not None and sequence <= job.sequence:
            record = rebuilt.get(job_id) or job_view.new_job(job_id, event.tenant, event.time)
            rebuilt[job_id] = job_view.apply_event(record, event)
    return rebuilt, count, {job_id for job_id, sequence in first.items() if sequence > 1}


def _of_store(job: Job) -> dict[str, Any]:
    return {
        "stage": job.stage.value, "sequence": job.sequence, "file_count": job.total, "workflow": job.workflow.ref, "retries": job.retries,
    }  # fmt: skip


def _differences(expected: dict[str, Any], record: dict[str, Any] | None, name: str) -> list[str]:
    if record is None:
        return [f"{name} know nothing of it"]
    if record["sequence"] > expected["sequence"]:
        return []  # it has gone on since
    return [f"{name} say {k} is {record[k]!r}, the store {expected[k]!r}" for k in COMPARED if record[k] != expected[k]]
