"""`decide`: what follows from one event for one job. The only place where the pipeline moves; an event that is not listed is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from contracts import (
    FILE_COMMANDS,
    CancelJob,
    CreateJob,
    FileCommand,
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
from contracts.ownership import owns
from contracts.parameters import check_arguments
from contracts.stage import WORKER_STOPPED
from services.job_orchestrator.core import attempts, verbs
from services.job_orchestrator.core.advance import advance, end_badly
from services.job_orchestrator.core.apply_result import apply_result
from services.job_orchestrator.core.condition import ConditionFailed
from services.job_orchestrator.core.decision_builder import Credits, DecisionBuilder, unlimited
from services.job_orchestrator.core.file_acts import Arrival, arrive_by_move, change_file
from services.job_orchestrator.core.job import BRANCH_TABLE, IN_FLIGHT, JOB_BRANCH, Branch, BranchState, Decision, Job, Trigger
from services.job_orchestrator.core.moves import GiveUp, Leave, Release, Retry, StepEnd
from services.job_orchestrator.core.policy import silence_s
from services.job_orchestrator.core.rerun import Rerun, rerun
from services.job_orchestrator.core.shared_metadata import with_shared_metadata
from services.job_orchestrator.core.workflow import Step, Workflow

WORKER_WAIT_S = 5.0
"""Back-off of a worker that asks for time (QUEUED) and does not say how much."""


@dataclass(frozen=True, slots=True)
class Start:
    """A request for a job. `workflow` is the published version that the request names, or None if there is none."""

    request: SessionClosed | CreateJob
    workflow: Workflow | None


@dataclass(frozen=True, slots=True)
class BranchDue:
    """A branch's timer is due: its back-off or wait is over, no worker took its task, or its worker fell silent."""

    job_id: str
    branch_id: str
    lease: str


@dataclass(frozen=True, slots=True)
class Granted:
    """A credit for the attempt that a branch is ready for."""

    job_id: str
    branch_id: str
    lease: str


Verb = CancelJob | TerminateJob | PauseJob | ResumeJob | RetryJobNow | PokeJob | FileCommand | Arrival
JobInput = Start | Rerun | StageReport | Verb | BranchDue | Granted

TRIGGERS = {
    TaskStatus.OK: Trigger.OK, TaskStatus.SKIP: Trigger.SKIP, TaskStatus.KO: Trigger.KO, TaskStatus.ERR: Trigger.ERR,
    TaskStatus.QUEUED: Trigger.WAIT, TaskStatus.RUN: Trigger.RUN,
}  # fmt: skip
_VERBS: dict[type, Callable[..., Decision]] = {
    CancelJob: verbs.cancel, TerminateJob: verbs.terminate, PauseJob: verbs.pause, ResumeJob: verbs.resume,
    RetryJobNow: verbs.retry_now, PokeJob: verbs.signal, **dict.fromkeys(FILE_COMMANDS, change_file), Arrival: arrive_by_move,
}  # fmt: skip


def decide(job: Job | None, event: JobInput, now: datetime, credits: Credits = unlimited) -> Decision:
    """What follows from `event` for `job` at `now` (UTC).

    `credits(action)` says how many tasks of an action the decision may hand out; the others wait as `ready`.
    Returns the job unchanged, with a reason in `refused`, when the event does not apply. Raises `NeedsAllBranches` when the decision
    concerns branches that are not loaded.
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
    branches = {f.file_id: Branch(f.file_id, with_shared_metadata(request, f)) for f in request.files}
    job = Job(
        request.job_id, request.owner, request.job, event.workflow or _missing(request), now, now, total=len(branches),
        branches=branches, session_id=request.session_id if isinstance(request, SessionClosed) else None,
        parent=request.parent if isinstance(request, CreateJob) else None,
    )  # fmt: skip
    builder = DecisionBuilder(job, request.message_id, now, credits)
    builder.job_created(tuple(f.url for f in request.files if f.url))
    fault = _fault(event.workflow, request)
    if fault is not None:
        _end_invalid(builder, fault)
    elif request.job.start_at is not None and request.job.start_at > now:
        lease = derived(job.id, "start_at", "lease")
        due_at = request.job.start_at.timestamp()
        builder.change_branch(Branch(JOB_BRANCH, lease=lease), state=BranchState.WAITING, due_at=due_at)
    else:
        builder.job_started()
        advance(builder, Release(0))
    return builder.decision()


def _end_invalid(builder: DecisionBuilder, fault: str) -> None:
    builder.change_job(errors=(fault,), invalid=len(builder.branches))
    for branch in list(builder.branches.values()):
        branch = builder.change_branch(branch, state=BranchState.INVALID, status=FileStatus.INVALID)
        builder.file_failed(branch, FileStatus.INVALID, "invalid_job", fault)
    end_badly(builder, JobStage.INVALID)


def _missing(request: SessionClosed | CreateJob) -> Workflow:
    """A stand-in for a workflow that does not exist: every job has one, also an invalid job."""
    step = {"name": "none", "action": "none", "scope": "job"}
    return Workflow.model_validate({"name": "unknown", "version": request.job.workflow_version or 1, "steps": [step]})


def _fault(workflow: Workflow | None, request: SessionClosed | CreateJob) -> str | None:
    files, tenant = request.files, request.owner.tenant_id
    if workflow is None:
        return f"workflow: there is no workflow {request.job.workflow!r}"
    closed = check_arguments(workflow.all_steps, request.job.args, tenant)
    if closed is not None:
        return f"{closed} [{closed.code}]"
    if any(f.blob_name and not owns(tenant, f.blob_name) for f in files):
        return "files: an object of the job's tenant is expected [foreign_object]"
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
    step = job.step_of(branch)
    if (report.attempt, report.lease, report.step) != (branch.attempt, branch.lease, step.name):
        return Decision(job, refused="stale attempt")
    trigger = TRIGGERS[report.status]
    if job.ended or (branch.state, trigger) not in BRANCH_TABLE:
        return Decision(job, refused="attempt is closed")
    builder = _freeing(job, branch, step, report.message_id, now, credits, trigger is not Trigger.RUN)
    try:
        _apply(builder, branch, step, trigger, report)
    except (ValueError, TypeError) as error:
        # The worker's result breaks the contract: the attempt failed, and nothing else of the report counts.
        builder = _freeing(job, branch, step, report.message_id, now, credits, True)
        advance(builder, Retry(branch, "invalid_result", f"{step.name}: {str(error)[:500]}"))
    return builder.decision()


def _freeing(job: Job, branch: Branch, step: Step, cause: str, now: datetime, credits: Credits, closed: bool) -> DecisionBuilder:
    """A builder that counts the branch's credit as free if its open attempt is `closed` by the event."""
    builder = DecisionBuilder(job, cause, now, credits)
    if closed and branch.state in IN_FLIGHT:
        builder.freed[step.action] = 1
    return builder


def _apply(builder: DecisionBuilder, branch: Branch, step: Step, trigger: Trigger, report: StageReport) -> None:
    code, message = report.code or "unspecified", report.message or report.code or "no reason given"
    if trigger is Trigger.RUN:
        _heartbeat(builder, branch, step, report)
    elif trigger is Trigger.WAIT:
        _asked_for_time(builder, branch, step, report, f"{code}: {message}" if report.code else message)
    elif trigger is Trigger.ERR:
        advance(builder, Retry(branch, code, message))
    else:
        builder.remember_step_end(step, report.status.value, report.code, report.message)
        if trigger is Trigger.OK:
            branch = apply_result(builder, branch, report.step, report.result)
        usual = GiveUp(branch, code, message) if trigger is Trigger.KO else Leave(branch, branch.step + 1)
        advance(builder, StepEnd(branch, report.status.value, report.code, usual))


def _asked_for_time(builder: DecisionBuilder, branch: Branch, step: Step, report: StageReport, why: str) -> None:
    """The worker cannot begin yet. The same attempt is handed out again after a back-off."""
    due = builder.unix + (report.retry_in if report.retry_in is not None else WORKER_WAIT_S)
    if branch.id == JOB_BRANCH or builder.job.total == 1:
        # A job of many files would have one such note per file.
        builder.operator_note("queued", report.worker or "worker", why)
    due_at = attempts.deadline(step.timeouts, branch.entered_at, due)
    returned = (branch.returned or 0) + 1 if report.code == WORKER_STOPPED else branch.returned
    again = {"polls": branch.polls + 1, "returned": returned, "waiting": True}
    builder.change_branch(branch, state=BranchState.BACKOFF, due_at=due_at, **again)


def _heartbeat(builder: DecisionBuilder, branch: Branch, step: Step, report: StageReport) -> None:
    started = branch.started_at or builder.unix
    # The lease outlives each sign of life by the allowed silence, but never the step's running time by more than that.
    due = min(builder.unix, started + step.timeouts.running_s) + silence_s(step.timeouts)
    first = branch.state is BranchState.QUEUED
    due_at = attempts.deadline(step.timeouts, branch.entered_at, due)
    branch = builder.change_branch(branch, state=BranchState.RUNNING, started_at=started, due_at=due_at, worker=report.worker)
    if first or report.progress is not None:
        progress = report.progress
        builder.file_status(
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
        attempts.hand_out(builder, branch, job.step_of(branch))
    except ConditionFailed as error:
        advance(builder, GiveUp(branch, "condition_failed", f"{job.step_of(branch).name}: {error}"))
    return builder.decision()


def _due(job: Job, event: BranchDue, now: datetime, credits: Credits) -> Decision:
    branch = job.branches.get(event.branch_id)
    if branch is None or branch.lease != event.lease or branch.due_at is None or branch.due_at > now.timestamp():
        return Decision(job, refused="timer is void")
    if job.ended or (branch.state, Trigger.DUE) not in BRANCH_TABLE:
        return Decision(job, refused="job has ended")
    step = job.step_of(branch)
    builder = _freeing(job, branch, step, derived(branch.lease, "due", branch.state), now, credits, True)
    if branch.state is BranchState.WAITING and job.stage is JobStage.QUEUED:
        builder.change_branch(branch, state=BranchState.IDLE, due_at=None, lease="")
        builder.job_started()
        advance(builder, Release(0))
    elif step.timeouts.total_s is not None and attempts.deadline(step.timeouts, branch.entered_at, None) == branch.due_at:
        _out_of_time(builder, branch, "timeout_total", f"{step.name} took longer than {step.timeouts.total_s:.0f} s in all")
    elif branch.state is BranchState.WAITING:
        _waited(builder, branch, step)
    elif branch.state is BranchState.BACKOFF:
        attempts.start_next_attempt(builder, branch)
    else:
        _lease_over(builder, branch, step)
    return builder.decision()


def _lease_over(builder: DecisionBuilder, branch: Branch, step: Step) -> None:
    """No worker took the task, or the worker that did fell silent."""
    attempts.revoke(builder, branch, "its time is over")
    if branch.state is BranchState.QUEUED:
        advance(builder, Retry(branch, "timeout_queued", f"no worker took {step.action} in time"))
    else:
        why = f"worker {branch.worker or 'unknown'} ended or fell silent while it ran {step.name}"
        advance(builder, Retry(branch, "lease_expired", why))


def _out_of_time(builder: DecisionBuilder, branch: Branch, code: str, message: str) -> None:
    if branch.state in IN_FLIGHT:
        attempts.revoke(builder, branch, "its time is over")
    advance(builder, StepEnd(branch, "ERR", code, GiveUp(branch, code, message)))


def _waited(builder: DecisionBuilder, branch: Branch, step: Step) -> None:
    """A wait step's time is over. It ends well, or fails because no answer came."""
    wait = step.wait
    assert wait is not None
    if wait.kind == "time" or wait.on_timeout == "OK":
        code = None if wait.kind == "time" else "timeout_wait"
        advance(builder, StepEnd(branch, "OK", code, Leave(branch, branch.step + 1)))
    else:
        _out_of_time(builder, branch, "timeout_wait", f"nobody answered {step.name} in time")
