"""Erases a job: its rows here, and by a `JobErased` what other services keep of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from contracts import EraseJob, JobErased, derived
from contracts.ownership import names_object, owns
from contracts.topics import JOB_ERASURES_TOPIC, JOB_STATE_TOPIC
from services.job_orchestrator.core.file_acts import file_erased, objects_of
from services.job_orchestrator.core.job import Job
from services.job_orchestrator.decisions.job_batch import JobBatch

PER_RECORD = 2000
"""Object names in one `JobErased`."""


def erase(jobs: JobBatch, command: EraseJob, trace: str | None) -> str | None:
    """Erase the job. What a job that ran it again has kept of it stays until that job is erased. Returns the reason for a refusal, else None."""
    job = jobs.with_all_branches(command.job_id)
    if job is None or job.owner.tenant_id != command.owner.tenant_id:
        return "unknown job"
    if not job.ended:
        return "job has not ended"
    kept = frozenset(name for rerun in jobs.reruns_of(job) for name in blobs(rerun))
    for branch in job.branches.values():
        if branch.former_jobs:
            # Its events and its session are those of another job, too.
            jobs.unit.emit(JOB_ERASURES_TOPIC.name, file_erased(job, branch, command, jobs.now, kept), trace)
    names = sorted(set(blobs(job)) - kept)
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
    """Names of the tenant's objects that hold the job's files and options, and of those that its steps stored."""
    return (name for name in _named(job) if owns(job.owner.tenant_id, name))


def _named(job: Job) -> Iterator[str]:
    for settings in (job.request.args or {}).values():
        # At the top alone: what lies deeper is data of the job, not the name of an object that was made for it.
        yield from (value for key, value in settings.items() if names_object(key) and isinstance(value, str) and value)
    for branch in job.branches.values():
        yield from objects_of(branch)
