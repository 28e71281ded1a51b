"""What people do to a running job: cancel, terminate, pause, resume, retry now, poke. Each changes it or is refused."""

from __future__ import annotations

from datetime import datetime

from contracts import CancelJob, JobStage, PauseJob, PokeJob, ResumeJob, RetryJobNow, TerminateJob
from contracts.job_control import JobVerb
from contracts.job_events import JobFailed
from services.job_orchestrator.core.apply_result import apply_result
from services.job_orchestrator.core.decision_builder import Credits, DecisionBuilder
from services.job_orchestrator.core.ending import all_loaded, withdraw
from services.job_orchestrator.core.job import BRANCH_TABLE, Branch, BranchState, Decision, Job, Trigger
from services.job_orchestrator.core.steps import advance, ended_with, give_up


def _refusal(job: Job, command: CancelJob | JobVerb) -> Decision | None:
    if command.owner.tenant_id != job.owner.tenant_id:
        return Decision(job, refused="unknown job")
    if job.ended:
        return Decision(job, refused="job has ended")
    return None


def cancel(job: Job, command: CancelJob, now: datetime, credits: Credits) -> Decision:
    """End it as `cancelled`: workers are told, timers die, child jobs are cancelled."""
    return _refusal(job, command) or _end(job, command, now, JobStage.CANCELLED, "cancelled")


def terminate(job: Job, command: TerminateJob, now: datetime, credits: Credits) -> Decision:
    """End it as `failed`, without its rescue."""
    return _refusal(job, command) or _end(job, command, now, JobStage.FAILED, "terminated")


def _end(job: Job, command: CancelJob | TerminateJob, now: datetime, stage: JobStage, word: str) -> Decision:
    builder = DecisionBuilder(job, command.message_id, now)
    reason = command.reason or word
    withdraw(builder, reason)
    builder.change(errors=(*job.errors, f"{word} by {command.owner.user_name or 'unknown'}: {reason}"), paused_by=None)
    builder.move(stage)
    builder.ended_badly(JobFailed, error_messages=builder.job.errors, stage=stage, file_ends=builder.job.file_ends)
    builder.tell_parent()
    return builder.decision()


def pause(job: Job, command: PauseJob, now: datetime, credits: Credits) -> Decision:
    """Hand out nothing more. What workers have may end; time-outs of whole steps go on."""
    refused = _refusal(job, command)
    if refused is not None:
        return refused
    if job.paused_by is not None:
        return Decision(job, refused="job is paused")
    builder = DecisionBuilder(job, command.message_id, now)
    all_loaded(builder)
    builder.change(paused_by=command.owner.user_name or "unknown", paused_reason=command.reason, paused_at=builder.unix)
    _touch_ready(builder)
    builder.note("pause", command.owner.user_name, command.reason)
    return builder.decision()


def resume(job: Job, command: ResumeJob, now: datetime, credits: Credits) -> Decision:
    """What was ready queues up again."""
    refused = _refusal(job, command)
    if refused is not None:
        return refused
    if job.paused_by is None:
        return Decision(job, refused="job is not paused")
    builder = DecisionBuilder(job, command.message_id, now, credits)
    all_loaded(builder)
    builder.change(paused_by=None, paused_reason="", paused_at=None)
    _touch_ready(builder)
    builder.note("resume", command.owner.user_name, command.reason)
    return builder.decision()


def _touch_ready(builder: DecisionBuilder) -> None:
    # Written again, so that the store enters them among those that wait for credits, or takes them out.
    for branch in list(builder.branches.values()):
        if branch.state is BranchState.READY:
            builder.put(branch, since=builder.unix)


def retry_now(job: Job, command: RetryJobNow, now: datetime, credits: Credits) -> Decision:
    """Begin the next attempt of what is in back-off at once."""
    refused = _refusal(job, command)
    if refused is not None:
        return refused
    builder = DecisionBuilder(job, command.message_id, now, credits)
    if command.file_id is None:
        all_loaded(builder)
    branches = [x for x in builder.branches.values() if x.state is BranchState.BACKOFF and command.file_id in (None, x.id)]
    if not branches:
        return Decision(job, refused="nothing waits for a retry")
    for branch in branches:
        builder.dispatch(branch, branch.attempt if branch.waiting else branch.attempt + 1, branch.polls if branch.waiting else 0)
    builder.note("retry", command.owner.user_name, command.reason)
    return builder.decision()


def trigger(job: Job, command: PokeJob, now: datetime, credits: Credits) -> Decision:
    """What wait steps wait for has happened, or will not."""
    refused = _refusal(job, command)
    if refused is not None:
        return refused
    builder = DecisionBuilder(job, command.message_id, now, credits)
    if command.file_id is None:
        all_loaded(builder)
    waiting = [branch for branch in builder.branches.values() if _waits(builder, branch, command)]
    branches = [branch for branch in waiting if command.approval or not _needs_approval(builder, branch)]
    if not branches:
        return Decision(job, refused="approval is for operators" if waiting else "nothing waits for it")
    builder.note("poke", command.owner.user_name, command.message or "")
    for branch in branches:
        # One branch's end may have been the end of the job.
        if (
            not builder.job.ended
            and builder.branches[branch.id].lease == branch.lease
            and _waits(builder, builder.branches[branch.id], command)
        ):
            try:
                _answer(builder, builder.branches[branch.id], command)
            except (ValueError, TypeError):
                return Decision(job, refused="data is not what a step may give")
    return builder.decision()


def _waits(builder: DecisionBuilder, branch: Branch, command: PokeJob) -> bool:
    if (branch.state, Trigger.SIGNAL) not in BRANCH_TABLE or builder.job.stage is JobStage.QUEUED:
        return False
    step = builder.job.step_of(branch)
    return (
        step.wait is not None
        and step.wait.kind != "time"
        and command.step in (None, step.name)
        and command.file_id in (None, branch.id)
    )


def _needs_approval(builder: DecisionBuilder, branch: Branch) -> bool:
    wait = builder.job.step_of(branch).wait
    return wait is not None and wait.kind == "approval"


def _answer(builder: DecisionBuilder, branch: Branch, command: PokeJob) -> None:
    step = builder.job.step_of(branch).name
    by = {"by": command.owner.user_name, **({"message": command.message} if command.message else {})}
    if command.outcome == "OK":
        branch = apply_result(builder, branch, step, {**command.data, **by})
        if not ended_with(builder, branch, "OK", command.code):
            advance(builder, branch)
    elif not ended_with(builder, branch, "KO", command.code):
        give_up(builder, branch, command.code or "rejected", command.message or f"{step}: rejected by {by['by'] or 'unknown'}")
