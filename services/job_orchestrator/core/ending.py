"""How a job ends: well, badly, or badly after its rescue steps."""

from __future__ import annotations

from contracts import FileStatus, JobStage
from contracts.job_events import JobFailed, JobInvalid
from services.job_orchestrator.core.decision_builder import DecisionBuilder
from services.job_orchestrator.core.job import IN_FLIGHT, JOB_BRANCH, Branch, BranchState, NeedsAllBranches


def all_loaded(builder: DecisionBuilder) -> None:
    """Raises `NeedsAllBranches` unless every branch is there."""
    if sum(1 for key in builder.branches if key != JOB_BRANCH) < builder.job.total:
        raise NeedsAllBranches


def close(builder: DecisionBuilder, state: BranchState | None = None, reason: str = "") -> Branch | None:
    """End the job: because a branch ended in `state`, or else by what became of its files.

    Returns the job's branch when it is to run its rescue steps first; the caller enters the first of them.
    """
    job = builder.job
    if state is not None:
        withdraw(builder, reason)
        stage = JobStage.INVALID if state is BranchState.INVALID else JobStage.FAILED
    elif job.total and not job.live:
        stage = JobStage.INVALID if job.invalid == job.total else JobStage.FAILED
    else:
        builder.move(JobStage.COMPLETED)
        builder.finished()
        builder.tell_parent()
        return None
    if job.workflow.rescue and job.ending is None:
        builder.change(ending=stage)
        return _rescue_branch(builder, stage)
    end_badly(builder, job.ending or stage)
    return None


def _rescue_branch(builder: DecisionBuilder, stage: JobStage) -> Branch:
    old = builder.branches.get(JOB_BRANCH) or Branch(JOB_BRANCH)
    failure = {
        "stage": stage.value,
        "errors": list(builder.job.errors),
        "failed": builder.job.failed,
        "invalid": builder.job.invalid,
    }
    return builder.put(Branch(JOB_BRANCH, step=len(builder.job.workflow.steps), results={**old.results, "failure": failure}))


def end_badly(builder: DecisionBuilder, stage: JobStage) -> None:
    """The job's last events."""
    builder.move(stage)
    model = JobInvalid if stage is JobStage.INVALID else JobFailed
    builder.ended_badly(model, error_messages=builder.job.errors, stage=stage, file_ends=builder.job.file_ends)
    builder.tell_parent()


def withdraw(builder: DecisionBuilder, reason: str) -> None:
    """Cancel every branch that has not ended and tell the workers that hold one."""
    all_loaded(builder)
    for branch in list(builder.branches.values()):
        if branch.ended:
            continue
        if branch.state in IN_FLIGHT:
            builder.revoke(branch, reason)
        branch = builder.put(branch, state=BranchState.CANCELLED, due_at=None)
        if branch.id != JOB_BRANCH:
            builder.change(cancelled=builder.job.cancelled + 1)
            builder.status(branch, FileStatus.CANCELLED, role="cancelled")
