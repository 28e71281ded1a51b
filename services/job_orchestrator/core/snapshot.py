"""A job's header as the contract's `JobState`."""

from __future__ import annotations

from contracts.job_state import JobState
from services.job_orchestrator.core.job import JOB_BRANCH, Job, results_of


def state_of(job: Job) -> JobState:
    """The job as of its last event."""
    steps = job.workflow.all_steps
    return JobState.trusted(
        job_id=job.id, tenant_id=job.owner.tenant_id, tenant_name=job.owner.tenant_name, sequence=job.sequence, stage=job.stage,
        workflow=job.workflow.ref, step=steps[job.frontier].name if 0 <= job.frontier < len(steps) else None,
        created_at=job.created_at, updated_at=job.updated_at, session_id=job.session_id, metadata=job.request.metadata,
        file_count=job.total, finished_files=job.done, failed_files=job.failed + job.invalid, cancelled_files=job.cancelled,
        retries=job.retries, error_messages=job.errors, paused_by=job.paused_by, rerun_of=job.rerun_of,
        parent_job_id=job.parent.job_id if job.parent else None, job_key=job.request.job_key,
        results=results_of(job, job.branches.get(JOB_BRANCH)),
    )  # fmt: skip
