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
from services.job_orchestrator.core.decision_builder import Credits, Draft, unlimited
from services.job_orchestrator.core.job import IN_FLIGHT, JOB_LANE, LANE_TABLE, Decision, Job, Lane, LaneState, Signal
from services.job_orchestrator.core.policy import silence_s
from services.job_orchestrator.core.rerun import Fork, fork
from services.job_orchestrator.core.steps import advance, again, ended_with, give_up, release
from services.job_orchestrator.core.workflow import Workflow


@dataclass(frozen=True, slots=True)
class Start:
    """A job is wanted. `workflow` is what the request's name (and version) stand for now, or None."""

    wish: SessionClosed | CreateJob
    workflow: Workflow | None


@dataclass(frozen=True, slots=True)
class LaneDue:
    """A lane's timer went off: back-off over, or nobody took the task, or its worker fell silent."""

    job_id: str
    lane_id: str
    lease: str


@dataclass(frozen=True, slots=True)
class Granted:
    """There is a credit for the attempt that a lane is ready for."""

    job_id: str
    lane_id: str
    lease: str


Verb = CancelJob | TerminateJob | PauseJob | ResumeJob | RetryJobNow | PokeJob
JobInput = Start | Fork | StageReport | Verb | LaneDue | Granted

SIGNALS = {
    TaskStatus.OK: Signal.OK, TaskStatus.SKIP: Signal.SKIP, TaskStatus.KO: Signal.KO, TaskStatus.ERR: Signal.ERR,
    TaskStatus.QUEUED: Signal.WAIT, TaskStatus.RUN: Signal.RUN,
}  # fmt: skip
_VERBS: dict[type, Callable[..., Decision]] = {
    CancelJob: verbs.cancel, TerminateJob: verbs.terminate, PauseJob: verbs.pause, ResumeJob: verbs.resume,
    RetryJobNow: verbs.retry_now, PokeJob: verbs.poke,
}  # fmt: skip


def decide(job: Job | None, event: JobInput, now: datetime, credits: Credits = unlimited) -> Decision:
    """What follows from `event` for `job` at `now`, with `credits` for its tasks.

    Returns the job unchanged with a reason in `refused` when the event does not apply. Raises `NeedsAllLanes` when the
    decision concerns lanes that are not loaded.
    """
    if isinstance(event, (Start, Fork)):
        if job is not None:
            return Decision(job, refused="job exists")
        return _start(event, now, credits) if isinstance(event, Start) else fork(event, now, credits)
    if job is None:
        return Decision(None, refused="unknown job")
    if isinstance(event, StageReport):
        return _report(job, event, now, credits)
    if isinstance(event, LaneDue):
        return _due(job, event, now, credits)
    if isinstance(event, Granted):
        return _granted(job, event, now)
    if isinstance(event, Verb):
        return _VERBS[type(event)](job, event, now, credits)
    assert_never(event)


def _start(event: Start, now: datetime, credits: Credits) -> Decision:
    wish = event.wish
    workflow = event.workflow or _missing(wish)
    lanes = {f.file_id: Lane(f.file_id, f) for f in wish.files}
    job = Job(
        wish.job_id, wish.owner, wish.job, workflow, now, now, total=len(lanes), lanes=lanes,
        session_id=wish.session_id if isinstance(wish, SessionClosed) else None,
        parent=wish.parent if isinstance(wish, CreateJob) else None,
    )  # fmt: skip
    draft = Draft(job, wish.message_id, now, credits)
    draft.created(tuple(f.url for f in wish.files if f.url))
    fault = _fault(event.workflow, wish.files, wish.job.workflow)
    if fault is not None:
        draft.change(errors=(fault,), invalid=len(lanes))
        for lane in lanes.values():
            lane = draft.put(lane, state=LaneState.INVALID, status=FileStatus.INVALID)
            draft.file_failed(lane, FileStatus.INVALID, "invalid_job", fault)
        draft.move(JobStage.INVALID)
        draft.ended_badly(JobInvalid, error_messages=(fault,), stage=JobStage.INVALID, file_ends=draft.job.file_ends)
        draft.tell_parent()
        return draft.decision()
    if wish.job.start_at is not None and wish.job.start_at > now:
        lease = derived(job.id, "start_at", "lease")
        draft.put(Lane(JOB_LANE, lease=lease), state=LaneState.WAITING, due_at=wish.job.start_at.timestamp())
        return draft.decision()
    draft.started()
    release(draft, 0)
    return draft.decision()


def _missing(wish: SessionClosed | CreateJob) -> Workflow:
    step = {"name": "none", "action": "none", "scope": "job"}
    return Workflow.model_validate({"name": "unknown", "version": wish.job.workflow_version or 1, "steps": [step]})


def _fault(workflow: Workflow | None, files: tuple[FileRef, ...], wanted: str) -> str | None:
    if workflow is None:
        return f"workflow: there is no workflow {wanted!r}"
    if workflow.needs_files and not files:
        return f"files: workflow {workflow.ref} needs at least one file"
    if len({f.file_id for f in files}) < len(files) or any(f.file_id == JOB_LANE for f in files):
        return "files: file ids must be unique and not empty"
    return None


def _report(job: Job, report: StageReport, now: datetime, credits: Credits) -> Decision:
    lane = job.lanes.get(report.file_id or JOB_LANE)
    if lane is None:
        return Decision(job, refused="unknown file")
    if report.tenant_id != job.owner.tenant_id:
        return Decision(job, refused="other tenant")
    if (report.attempt, report.lease) != (lane.attempt, lane.lease) or report.step != job.step_of(lane).name:
        return Decision(job, refused="stale attempt")
    signal = SIGNALS[report.status]
    if job.ended or (lane.state, signal) not in LANE_TABLE:
        return Decision(job, refused="attempt is closed")
    draft = _freeing(job, lane, report.message_id, now, credits, signal is not Signal.RUN)
    try:
        _apply(draft, lane, signal, report)
    except (ValueError, TypeError) as error:
        # The worker's result is not what the contract says: its attempt has failed, and that is all that has happened.
        draft = _freeing(job, lane, report.message_id, now, credits, True)
        again(draft, lane, "invalid_result", f"{step_name(job, lane)}: {str(error)[:500]}")
    return draft.decision()


def _freeing(job: Job, lane: Lane, cause: str, now: datetime, credits: Credits, closed: bool) -> Draft:
    """A draft in which the lane's open attempt is over, and its credit free for what follows."""
    draft = Draft(job, cause, now, credits)
    if closed and lane.state in IN_FLIGHT:
        draft.freed[job.step_of(lane).action] = 1
    return draft


def step_name(job: Job, lane: Lane) -> str:
    """Name of the step that a lane is at."""
    return job.step_of(lane).name


def _apply(draft: Draft, lane: Lane, signal: Signal, report: StageReport) -> None:
    code, message = report.code or "unspecified", report.message or report.code or "no reason given"
    if signal is Signal.RUN:
        _heartbeat(draft, lane, report)
    elif signal is Signal.ERR:
        again(draft, lane, code, message)
    elif signal is Signal.WAIT:
        due = draft.unix + (report.retry_in if report.retry_in is not None else 5.0)
        if lane.id == JOB_LANE or draft.job.total == 1:
            # Of many files' steps it would only be noise.
            draft.note("queued", report.worker or "worker", f"{code}: {message}" if report.code else message)
        draft.put(lane, state=LaneState.BACKOFF, due_at=draft.bounded(lane, due), polls=lane.polls + 1, waiting=True)
    else:
        draft.step_ended(lane, report.status.value, report.code, report.message)
        if signal is Signal.OK:
            lane = apply_result(draft, lane, report.step, report.result)
        if ended_with(draft, lane, report.status.value, report.code):
            return
        if signal is Signal.KO:
            give_up(draft, lane, code, message)
        else:
            advance(draft, lane)


def _heartbeat(draft: Draft, lane: Lane, report: StageReport) -> None:
    step = draft.job.step_of(lane)
    started = lane.started_at or draft.unix
    # A worker may be silent for a while, but never beyond the step's own limit plus that while.
    due = min(draft.unix, started + step.timeouts.running_s) + silence_s(step.timeouts)
    first = lane.state is LaneState.QUEUED
    due_at = draft.bounded(lane, due)
    lane = draft.put(lane, state=LaneState.RUNNING, started_at=started, due_at=due_at, worker=report.worker)
    if first or report.progress is not None:
        progress = report.progress
        draft.status(
            lane, lane.status, role="progress", worker=report.worker,
            progress_done=progress.done if progress else None, progress_total=progress.total if progress else None,
        )  # fmt: skip


def _granted(job: Job, event: Granted, now: datetime) -> Decision:
    lane = job.lanes.get(event.lane_id)
    if lane is None or lane.lease != event.lease or job.ended or (lane.state, Signal.GRANT) not in LANE_TABLE:
        return Decision(job, refused="grant is void")
    if job.paused_by is not None:
        return Decision(job, refused="job is paused")
    draft = Draft(job, derived(lane.lease, "granted"), now)
    try:
        draft.hand_out(lane)
    except ConditionFailed as error:
        give_up(draft, lane, "condition_failed", f"{step_name(job, lane)}: {error}")
    return draft.decision()


def _due(job: Job, event: LaneDue, now: datetime, credits: Credits) -> Decision:
    lane = job.lanes.get(event.lane_id)
    if lane is None or lane.lease != event.lease or lane.due_at is None or lane.due_at > now.timestamp():
        return Decision(job, refused="timer is void")
    if job.ended or (lane.state, Signal.DUE) not in LANE_TABLE:
        return Decision(job, refused="job has ended")
    draft = _freeing(job, lane, derived(lane.lease, "due", lane.state), now, credits, True)
    step = job.step_of(lane)
    if lane.state is LaneState.WAITING and job.stage is JobStage.QUEUED:
        draft.put(lane, state=LaneState.IDLE, due_at=None, lease="")
        draft.started()
        release(draft, 0)
    elif step.timeouts.total_s is not None and draft.bounded(lane, None) == lane.due_at:
        _out_of_time(draft, lane, "timeout_total", f"{step.name} took longer than {step.timeouts.total_s:.0f} s in all")
    elif lane.state is LaneState.WAITING:
        _waited(draft, lane)
    elif lane.state is LaneState.BACKOFF:
        draft.dispatch(lane, lane.attempt if lane.waiting else lane.attempt + 1, lane.polls if lane.waiting else 0)
    else:
        draft.revoke(lane, "its time is over")
        if lane.state is LaneState.QUEUED:
            again(draft, lane, "timeout_queued", f"no worker took {step.action} in time")
        else:
            again(draft, lane, "lease_expired", f"worker {lane.worker or 'unknown'} fell silent")
    return draft.decision()


def _out_of_time(draft: Draft, lane: Lane, code: str, message: str) -> None:
    if lane.state in IN_FLIGHT:
        draft.revoke(lane, "its time is over")
    if not ended_with(draft, lane, "ERR", code):
        give_up(draft, lane, code, message)


def _waited(draft: Draft, lane: Lane) -> None:
    """A wait step's time is over: that is its end, or nobody came."""
    wait = draft.job.step_of(lane).wait
    assert wait is not None
    if wait.kind == "time" or wait.on_timeout == "OK":
        if not ended_with(draft, lane, "OK", None if wait.kind == "time" else "timeout_wait"):
            advance(draft, lane)
    else:
        _out_of_time(draft, lane, "timeout_wait", f"nobody answered {draft.job.step_of(lane).name} in time")
