"""`decide`: the only place where the pipeline moves. No I/O, no clock, no randomness; what is not listed is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from contracts import (
    CancelJob,
    CreateJob,
    FileRef,
    FileStatus,
    JobStage,
    PauseJob,
    PokeJob,
    ResumeJob,
    RetryJobNow,
    SessionClosed,
    StageReport,
    TaskStatus,
    TerminateJob,
    derived,
)
from contracts.job_events import JobInvalid
from services.job_orchestrator.core import verbs
from services.job_orchestrator.core.apply_result import apply_result
from services.job_orchestrator.core.condition import ConditionFailed
from services.job_orchestrator.core.decision_builder import Credits, DecisionBuilder, unlimited
from services.job_orchestrator.core.job import BRANCH_TABLE, IN_FLIGHT, JOB_BRANCH, Branch, BranchState, Decision, Job, Trigger
from services.job_orchestrator.core.policy import silence_s
from services.job_orchestrator.core.rerun import Rerun, rerun
from services.job_orchestrator.core.steps import advance, again, ended_with, give_up, release
from services.job_orchestrator.core.workflow import Workflow


@dataclass(frozen=True, slots=True)
class Start:
    """A job is wanted. `workflow` is what the request's name (and version) stand for now, or None."""

    request: SessionClosed | CreateJob
    workflow: Workflow | None


@dataclass(frozen=True, slots=True)
class BranchDue:
    """A branch's timer went off: back-off over, or nobody took the task, or its worker fell silent."""

    job_id: str
    branch_id: str
    lease: str


@dataclass(frozen=True, slots=True)
class Granted:
    """There is a credit for the attempt that a branch is ready for."""

    job_id: str
    branch_id: str
    lease: str


Verb = CancelJob | TerminateJob | PauseJob | ResumeJob | RetryJobNow | PokeJob
JobInput = Start | Rerun | StageReport | Verb | BranchDue | Granted

TRIGGERS = {
    TaskStatus.OK: Trigger.OK, TaskStatus.SKIP: Trigger.SKIP, TaskStatus.KO: Trigger.KO, TaskStatus.ERR: Trigger.ERR,
    TaskStatus.QUEUED: Trigger.WAIT, TaskStatus.RUN: Trigger.RUN,
}  # fmt: skip
_VERBS: dict[type, Callable[..., Decision]] = {
    CancelJob: verbs.cancel, TerminateJob: verbs.terminate, PauseJob: verbs.pause, ResumeJob: verbs.resume,
    RetryJobNow: verbs.retry_now, PokeJob: verbs.trigger,
}  # fmt: skip


def decide(job: Job | None, event: JobInput, now: datetime, credits: Credits = unlimited) -> Decision:
    """What follows from `event` for `job` at `now`, with `credits` for its tasks.

    Returns the job unchanged with a reason in `refused` when the event does not apply. Raises `NeedsAllBranches` when the
    decision concerns branches that are not loaded.
    """
    if isinstance(event, (Start, Rerun)):
        if job is not None:
            return Decision(job, refused="job exists")
        return _start(event, now, credits) if isinstance(event, Start) else rerun(event, now, credits)
    if job is None:
        return Decision(None, refused="unknown job")
    if isinstance(event, StageReport):
        return _report(job, event, now, credits)
    if isinstance(event, BranchDue):
        return _due(job, event, now, credits)
    if isinstance(event, Granted):
        return _granted(job, event, now)
    if isinstance(event, Verb):
        return _VERBS[type(event)](job, event, now, credits)
    assert_never(event)


def _start(event: Start, now: datetime, credits: Credits) -> Decision:
    request = event.request
    workflow = event.workflow or _missing(request)
    branches = {f.file_id: Branch(f.file_id, f) for f in request.files}
    job = Job(
        request.job_id, request.owner, request.job, workflow, now, now, total=len(branches), branches=branches,
        session_id=request.session_id if isinstance(request, SessionClosed) else None,
        parent=request.parent if isinstance(request, CreateJob) else None,
    )  # fmt: skip
    builder = DecisionBuilder(job, request.message_id, now, credits)
    builder.created(tuple(f.url for f in request.files if f.url))
    fault = _fault(event.workflow, request.files, request.job.workflow)
    if fault is not None:
        builder.change(errors=(fault,), invalid=len(branches))
        for branch in branches.values():
            branch = builder.put(branch, state=BranchState.INVALID, status=FileStatus.INVALID)
            builder.file_failed(branch, FileStatus.INVALID, "invalid_job", fault)
        builder.move(JobStage.INVALID)
        builder.ended_badly(JobInvalid, error_messages=(fault,), stage=JobStage.INVALID, file_ends=builder.job.file_ends)
        builder.tell_parent()
        return builder.decision()
    if request.job.start_at is not None and request.job.start_at > now:
        lease = derived(job.id, "start_at", "lease")
        builder.put(Branch(JOB_BRANCH, lease=lease), state=BranchState.WAITING, due_at=request.job.start_at.timestamp())
        return builder.decision()
    builder.started()
    release(builder, 0)
    return builder.decision()


def _missing(request: SessionClosed | CreateJob) -> Workflow:
    step = {"name": "none", "action": "none", "scope": "job"}
    return Workflow.model_validate({"name": "unknown", "version": request.job.workflow_version or 1, "steps": [step]})


def _fault(workflow: Workflow | None, files: tuple[FileRef, ...], wanted: str) -> str | None:
    if workflow is None:
        return f"workflow: there is no workflow {wanted!r}"
    if workflow.needs_files and not files:
        return f"files: workflow {workflow.ref} needs at least one file"
    if len({f.file_id for f in files}) < len(files) or any(f.file_id == JOB_BRANCH for f in files):
        return "files: file ids must be unique and not empty"
    return None


def _report(job: Job, report: StageReport, now: datetime, credits: Credits) -> Decision:
    branch = job.branches.get(report.file_id or JOB_BRANCH)
    if branch is None:
        return Decision(job, refused="unknown file")
    if report.tenant_id != job.owner.tenant_id:
        return Decision(job, refused="other tenant")
    if (report.attempt, report.lease) != (branch.attempt, branch.lease) or report.step != job.step_of(branch).name:
        return Decision(job, refused="stale attempt")
    trigger = TRIGGERS[report.status]
    if job.ended or (branch.state, trigger) not in BRANCH_TABLE:
        return Decision(job, refused="attempt is closed")
    builder = _freeing(job, branch, report.message_id, now, credits, trigger is not Trigger.RUN)
    try:
        _apply(builder, branch, trigger, report)
    except (ValueError, TypeError) as error:
        # The worker's result is not what the contract says: its attempt has failed, and that is all that has happened.
        builder = _freeing(job, branch, report.message_id, now, credits, True)
        again(builder, branch, "invalid_result", f"{step_name(job, branch)}: {str(error)[:500]}")
    return builder.decision()


def _freeing(job: Job, branch: Branch, cause: str, now: datetime, credits: Credits, closed: bool) -> DecisionBuilder:
    """A builder in which the branch's open attempt is over, and its credit free for what follows."""
    builder = DecisionBuilder(job, cause, now, credits)
    if closed and branch.state in IN_FLIGHT:
        builder.freed[job.step_of(branch).action] = 1
    return builder


def step_name(job: Job, branch: Branch) -> str:
    """Name of the step that a branch is at."""
    return job.step_of(branch).name


def _apply(builder: DecisionBuilder, branch: Branch, trigger: Trigger, report: StageReport) -> None:
    code, message = report.code or "unspecified", report.message or report.code or "no reason given"
    if trigger is Trigger.RUN:
        _heartbeat(builder, branch, report)
    elif trigger is Trigger.ERR:
        again(builder, branch, code, message)
    elif trigger is Trigger.WAIT:
        due = builder.unix + (report.retry_in if report.retry_in is not None else 5.0)
        if branch.id == JOB_BRANCH or builder.job.total == 1:
            # Of many files' steps it would only be noise.
            builder.note("queued", report.worker or "worker", f"{code}: {message}" if report.code else message)
        builder.put(branch, state=BranchState.BACKOFF, due_at=builder.bounded(branch, due), polls=branch.polls + 1, waiting=True)
    else:
        builder.step_ended(branch, report.status.value, report.code, report.message)
        if trigger is Trigger.OK:
            branch = apply_result(builder, branch, report.step, report.result)
        if ended_with(builder, branch, report.status.value, report.code):
            return
        if trigger is Trigger.KO:
            give_up(builder, branch, code, message)
        else:
            advance(builder, branch)


def _heartbeat(builder: DecisionBuilder, branch: Branch, report: StageReport) -> None:
    step = builder.job.step_of(branch)
    started = branch.started_at or builder.unix
    # A worker may be silent for a while, but never beyond the step's own limit plus that while.
    due = min(builder.unix, started + step.timeouts.running_s) + silence_s(step.timeouts)
    first = branch.state is BranchState.QUEUED
    due_at = builder.bounded(branch, due)
    branch = builder.put(branch, state=BranchState.RUNNING, started_at=started, due_at=due_at, worker=report.worker)
    if first or report.progress is not None:
        progress = report.progress
        builder.status(
            branch, branch.status, role="progress", worker=report.worker,
            progress_done=progress.done if progress else None, progress_total=progress.total if progress else None,
        )  # fmt: skip


def _granted(job: Job, event: Granted, now: datetime) -> Decision:
    branch = job.branches.get(event.branch_id)
    if branch is None or branch.lease != event.lease or job.ended or (branch.state, Trigger.GRANT) not in BRANCH_TABLE:
        return Decision(job, refused="grant is void")
    if job.paused_by is not None:
        return Decision(job, refused="job is paused")
    builder = DecisionBuilder(job, derived(branch.lease, "granted"), now)
    try:
        builder.hand_out(branch)
    except ConditionFailed as error:
        give_up(builder, branch, "condition_failed", f"{step_name(job, branch)}: {error}")
    return builder.decision()


def _due(job: Job, event: BranchDue, now: datetime, credits: Credits) -> Decision:
    branch = job.branches.get(event.branch_id)
    if branch is None or branch.lease != event.lease or branch.due_at is None or branch.due_at > now.timestamp():
        return Decision(job, refused="timer is void")
    if job.ended or (branch.state, Trigger.DUE) not in BRANCH_TABLE:
        return Decision(job, refused="job has ended")
    builder = _freeing(job, branch, derived(branch.lease, "due", branch.state), now, credits, True)
    step = job.step_of(branch)
    if branch.state is BranchState.WAITING and job.stage is JobStage.QUEUED:
        builder.put(branch, state=BranchState.IDLE, due_at=None, lease="")
        builder.started()
        release(builder, 0)
    elif step.timeouts.total_s is not None and builder.bounded(branch, None) == branch.due_at:
        _out_of_time(builder, branch, "timeout_total", f"{step.name} took longer than {step.timeouts.total_s:.0f} s in all")
    elif branch.state is BranchState.WAITING:
        _waited(builder, branch)
    elif branch.state is BranchState.BACKOFF:
        builder.dispatch(branch, branch.attempt if branch.waiting else branch.attempt + 1, branch.polls if branch.waiting else 0)
    else:
        builder.revoke(branch, "its time is over")
        if branch.state is BranchState.QUEUED:
            again(builder, branch, "timeout_queued", f"no worker took {step.action} in time")
        else:
            again(builder, branch, "lease_expired", f"worker {branch.worker or 'unknown'} fell silent")
    return builder.decision()


def _out_of_time(builder: DecisionBuilder, branch: Branch, code: str, message: str) -> None:
    if branch.state in IN_FLIGHT:
        builder.revoke(branch, "its time is over")
    if not ended_with(builder, branch, "ERR", code):
        give_up(builder, branch, code, message)


def _waited(builder: DecisionBuilder, branch: Branch) -> None:
    """A wait step's time is over: that is its end, or nobody came."""
    wait = builder.job.step_of(branch).wait
    assert wait is not None
    if wait.kind == "time" or wait.on_timeout == "OK":
        if not ended_with(builder, branch, "OK", None if wait.kind == "time" else "timeout_wait"):
            advance(builder, branch)
    else:
        _out_of_time(builder, branch, "timeout_wait", f"nobody answered {builder.job.step_of(branch).name} in time")
