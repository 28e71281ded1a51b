"""What people do to a running job: cancel, terminate, pause, resume, retry, signal. Each changes the job or is refused with a reason."""

from __future__ import annotations

from datetime import datetime

from contracts import CancelJob, JobStage, PauseJob, PokeJob, ResumeJob, RetryJobNow, TerminateJob
from contracts.actions import RESERVED_KEYS, SIGNAL_KEYS
from contracts.job_control import JobVerb
from contracts.ownership import names_object
from services.job_orchestrator.core import attempts
from services.job_orchestrator.core.advance import advance, end_badly, need_all_branches, withdraw
from services.job_orchestrator.core.apply_result import apply_result
from services.job_orchestrator.core.decision_builder import Credits, DecisionBuilder
from services.job_orchestrator.core.job import BRANCH_TABLE, Branch, BranchState, Decision, Job, Trigger
from services.job_orchestrator.core.moves import GiveUp, Leave, StepEnd


def _refusal(job: Job, command: CancelJob | JobVerb) -> Decision | None:
    if command.owner.tenant_id != job.owner.tenant_id:
        return Decision(job, refused="unknown job")
    if job.ended:
        return Decision(job, refused="job has ended")
    return None


def cancel(job: Job, command: CancelJob, now: datetime, credits: Credits) -> Decision:
    """End the job as `cancelled`. Its open tasks, timers and child jobs are cancelled."""
    return _refusal(job, command) or _end(job, command, now, JobStage.CANCELLED, "cancelled")


def terminate(job: Job, command: TerminateJob, now: datetime, credits: Credits) -> Decision:
    """End the job as `failed`, without its rescue steps."""
    return _refusal(job, command) or _end(job, command, now, JobStage.FAILED, "terminated")


def _end(job: Job, command: CancelJob | TerminateJob, now: datetime, stage: JobStage, word: str) -> Decision:
    builder = DecisionBuilder(job, command.message_id, now)
    reason = command.reason or word
    withdraw(builder, reason)
    builder.change_job(errors=(*job.errors, f"{word} by {command.owner.user_name or 'unknown'}: {reason}"), paused_by=None)
    end_badly(builder, stage)
    return builder.decision()


def pause(job: Job, command: PauseJob, now: datetime, credits: Credits) -> Decision:
    """Hand out no more tasks. Tasks at workers may end; time limits of whole steps keep running."""
    refused = _refusal(job, command)
    if refused is not None:
        return refused
    if job.paused_by is not None:
        return Decision(job, refused="job is paused")
    builder = DecisionBuilder(job, command.message_id, now)
    need_all_branches(builder)
    builder.change_job(paused_by=command.owner.user_name or "unknown", paused_reason=command.reason, paused_at=builder.unix)
    _rewrite_ready(builder)
    builder.operator_note("pause", command.owner.user_name, command.reason)
    return builder.decision()


def resume(job: Job, command: ResumeJob, now: datetime, credits: Credits) -> Decision:
    """End a pause. Branches that are `ready` queue for credits again."""
    refused = _refusal(job, command)
    if refused is not None:
        return refused
    if job.paused_by is None:
        return Decision(job, refused="job is not paused")
    builder = DecisionBuilder(job, command.message_id, now, credits)
    need_all_branches(builder)
    builder.change_job(paused_by=None, paused_reason="", paused_at=None)
    _rewrite_ready(builder)
    builder.operator_note("resume", command.owner.user_name, command.reason)
    return builder.decision()


def _rewrite_ready(builder: DecisionBuilder) -> None:
    # A changed branch is saved, and saving enters it into the queue for credits or takes it out.
    for branch in list(builder.branches.values()):
        if branch.state is BranchState.READY:
            builder.change_branch(branch, since=builder.unix)


def retry_now(job: Job, command: RetryJobNow, now: datetime, credits: Credits) -> Decision:
    """Begin the next attempt of every branch in back-off, or of one file's, at once."""
    refused = _refusal(job, command)
    if refused is not None:
        return refused
    builder = DecisionBuilder(job, command.message_id, now, credits)
    if command.file_id is None:
        need_all_branches(builder)
    branches = [b for b in builder.branches.values() if b.state is BranchState.BACKOFF and command.file_id in (None, b.id)]
    if not branches:
        return Decision(job, refused="nothing waits for a retry")
    for branch in branches:
        attempts.start_next_attempt(builder, branch)
    builder.operator_note("retry", command.owner.user_name, command.reason)
    return builder.decision()


def signal(job: Job, command: PokeJob, now: datetime, credits: Credits) -> Decision:
    """Answer the wait steps that `command` names: they end with its outcome."""
    refused = _refusal(job, command)
    if refused is not None:
        return refused
    builder = DecisionBuilder(job, command.message_id, now, credits)
    if command.file_id is None:
        need_all_branches(builder)
    waiting = [b for b in builder.branches.values() if _waits(builder, b, command)]
    answered = [b for b in waiting if command.approval or not _needs_approval(builder, b)]
    if not answered:
        return Decision(job, refused="approval is for operators" if waiting else "nothing waits for it")
    wrong = next((key for key in command.data if key in RESERVED_KEYS - SIGNAL_KEYS or names_object(key)), None)
    if wrong is not None:
        return Decision(job, refused="invalid data", why=f"data.{wrong}: the answer to a step may not set it"[:500])
    builder.operator_note("poke", command.owner.user_name, command.message or "")
    try:
        for asked in answered:
            branch = builder.branches[asked.id]
            # The answer of a branch before this one may have ended the job.
            if not builder.job.ended and branch.lease == asked.lease and _waits(builder, branch, command):
                _answer(builder, branch, command)
    except (ValueError, TypeError) as error:
        return Decision(job, refused="data is not what a step may give", why=f"data: {error}"[:500])
    return builder.decision()


def _waits(builder: DecisionBuilder, branch: Branch, command: PokeJob) -> bool:
    if (branch.state, Trigger.SIGNAL) not in BRANCH_TABLE or builder.job.stage is JobStage.QUEUED:
        return False
    step = builder.job.step_of(branch)
    answerable = step.wait is not None and step.wait.kind != "time"
    return answerable and command.step in (None, step.name) and command.file_id in (None, branch.id)


def _needs_approval(builder: DecisionBuilder, branch: Branch) -> bool:
    wait = builder.job.step_of(branch).wait
    return wait is not None and wait.kind == "approval"


def _answer(builder: DecisionBuilder, branch: Branch, command: PokeJob) -> None:
    step, user = builder.job.step_of(branch).name, command.owner.user_name
    if command.outcome == "OK":
        said = {"message": command.message} if command.message else {}
        branch = apply_result(builder, branch, step, {**command.data, "by": user, **said})
        advance(builder, StepEnd(branch, "OK", command.code, Leave(branch, branch.step + 1)))
        return
    message = command.message or f"{step}: rejected by {user or 'unknown'}"
    rejected = GiveUp(branch, command.code or "rejected", message)
    advance(builder, StepEnd(branch, "KO", command.code, rejected))
