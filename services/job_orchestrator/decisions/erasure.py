"""Erases a job: its rows here, and by a `JobErased` what other services keep of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from contracts import EraseJob, JobErased, derived
from contracts.topics import JOB_ERASURES_TOPIC, JOB_STATE_TOPIC
from services.job_orchestrator.core.job import Job
from services.job_orchestrator.decisions.job_batch import JobBatch

PER_RECORD = 2000
"""Object names in one `JobErased`."""


def erase(jobs: JobBatch, command: EraseJob, trace: str | None) -> str | None:
    """Erase the job. Returns the reason for a refusal, else None."""
    job = jobs.with_all_branches(command.job_id)
    if job is None or job.owner.tenant_id != command.owner.tenant_id:
        return "unknown job"
    if not job.ended:
        return "job has not ended"
    names = sorted(set(blobs(job)))
    for part, start in enumerate(range(0, max(1, len(names)), PER_RECORD)):
        event = JobErased(
            event_id=derived(command.job_id, "erased", part), job_id=job.id, tenant_id=job.owner.tenant_id,
            occurred_at=datetime.fromtimestamp(jobs.unit.now, UTC), session_id=job.session_id, by=command.owner.user_name,
            reason=command.reason, part=part, blobs=tuple(names[start : start + PER_RECORD]),
        )  # fmt: skip
        jobs.unit.emit(JOB_ERASURES_TOPIC.name, event, trace)
    jobs.unit.emit_tombstone(JOB_STATE_TOPIC.name, job.id)
    jobs.erase(job.id)
    return None


def blobs(job: Job) -> Iterator[str]:
    """Names of the objects that hold the job's files, and of those that its steps stored."""
    yield from _named((job.request.args or {}).items())
    for branch in job.branches.values():
        if branch.file is not None and branch.file.blob_name:
            yield branch.file.blob_name
        for result in branch.results.values():
            yield from _named(result.items())


def _named(items: Iterable[tuple[str, Any]]) -> Iterator[str]:
    for key, value in items:
        if isinstance(value, Mapping):
            yield from _named(value.items())
        elif isinstance(value, list):
            for entry in value:
                yield from _named(entry.items()) if isinstance(entry, Mapping) else ()
        elif isinstance(value, str) and (key.endswith("_blob") or key == "blob_name") and value:
            yield value
