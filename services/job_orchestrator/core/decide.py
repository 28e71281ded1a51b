"""`decide`: the only place where the pipeline moves. No I/O, no clock, no randomness; what is not listed is refused."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from contracts import CancelJob, CreateJob, FileRef, JobStage, SessionClosed, StageReport, TaskStatus, derived
from contracts.job_events import JobFailed, JobInvalid
from services.job_orchestrator.core.draft import Draft
from services.job_orchestrator.core.job import JOB_LANE, LANE_TABLE, Decision, Job, Lane, LaneState, Signal
from services.job_orchestrator.core.policy import silence_s
from services.job_orchestrator.core.results import absorb
from services.job_orchestrator.core.steps import advance, again, give_up, release, withdraw
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


JobInput = Start | StageReport | CancelJob | LaneDue

SIGNALS = {
    TaskStatus.OK: Signal.OK, TaskStatus.SKIP: Signal.SKIP, TaskStatus.KO: Signal.KO, TaskStatus.ERR: Signal.ERR,
    TaskStatus.QUEUED: Signal.WAIT, TaskStatus.RUN: Signal.RUN,
}  # fmt: skip


def decide(job: Job | None, event: JobInput, now: datetime) -> Decision:
    """What follows from `event` for `job` at `now`.

    Returns the job unchanged with a reason in `refused` when the event does not apply. Raises `NeedsAllLanes` when the
    decision concerns lanes that are not loaded.
    """
    if isinstance(event, Start):
        return Decision(job, refused="job exists") if job is not None else _start(event, now)
    if job is None:
        return Decision(None, refused="unknown job")
    if isinstance(event, StageReport):
        return _report(job, event, now)
    if isinstance(event, CancelJob):
        return _cancel(job, event, now)
    if isinstance(event, LaneDue):
        return _due(job, event, now)
    assert_never(event)


def _start(event: Start, now: datetime) -> Decision:
    wish = event.wish
    workflow = event.workflow or _missing(wish)
    lanes = {f.file_id: Lane(f.file_id, f) for f in wish.files}
    job = Job(
        wish.job_id, wish.owner, wish.job, workflow, now, now, total=len(lanes), lanes=lanes,
        session_id=wish.session_id if isinstance(wish, SessionClosed) else None,
    )  # fmt: skip
    draft = Draft(job, wish.message_id, now)
    draft.created(tuple(f.url for f in wish.files if f.url))
    fault = _fault(event.workflow, wish.files, wish.job.workflow)
    if fault is not None:
        draft.change(errors=(fault,), invalid=len(lanes))
        for lane in lanes.values():
            draft.put(lane, state=LaneState.INVALID)
        draft.move(JobStage.INVALID)
        draft.ended_badly(JobInvalid, error_messages=(fault,), stage=JobStage.INVALID)
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


def _report(job: Job, report: StageReport, now: datetime) -> Decision:
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
    draft = Draft(job, report.message_id, now)
    try:
        _apply(draft, lane, signal, report)
    except (ValueError, TypeError) as error:
        # The worker's result is not what the contract says: its attempt has failed, and that is all that has happened.
        draft = Draft(job, report.message_id, now)
        again(draft, lane, "invalid_result", f"{step_name(job, lane)}: {str(error)[:500]}")
    return draft.decision()


def step_name(job: Job, lane: Lane) -> str:
    """Name of the step that a lane is at."""
    return job.step_of(lane).name


def _apply(draft: Draft, lane: Lane, signal: Signal, report: StageReport) -> None:
    code, message = report.code or "unspecified", report.message or report.code or "no reason given"
    if signal is Signal.RUN:
        _heartbeat(draft, lane, report)
    elif signal is Signal.OK:
        advance(draft, absorb(draft, lane, report.step, report.result))
    elif signal is Signal.SKIP:
        advance(draft, lane)
    elif signal is Signal.KO:
        give_up(draft, lane, code, message)
    elif signal is Signal.ERR:
        again(draft, lane, code, message)
    else:
        due = draft.unix + (report.retry_in if report.retry_in is not None else 5.0)
        draft.put(lane, state=LaneState.BACKOFF, due_at=due, polls=lane.polls + 1, waiting=True)


def _heartbeat(draft: Draft, lane: Lane, report: StageReport) -> None:
    step = draft.job.step_of(lane)
    started = lane.started_at or draft.unix
    # A worker may be silent for a while, but never beyond the step's own limit plus that while.
    due = min(draft.unix, started + step.timeouts.running_s) + silence_s(step.timeouts)
    first = lane.state is LaneState.QUEUED
    lane = draft.put(lane, state=LaneState.RUNNING, started_at=started, due_at=due, worker=report.worker)
    if first or report.progress is not None:
        progress = report.progress
        draft.status(
            lane, lane.status, role="progress", worker=report.worker,
            progress_done=progress.done if progress else None, progress_total=progress.total if progress else None,
        )  # fmt: skip


def _cancel(job: Job, command: CancelJob, now: datetime) -> Decision:
    if command.owner.tenant_id != job.owner.tenant_id:
        return Decision(job, refused="unknown job")
    if job.ended:
        return Decision(job, refused="job has ended")
    draft = Draft(job, command.message_id, now)
    reason = command.reason or "cancelled"
    withdraw(draft, reason)
    draft.change(errors=(*job.errors, f"cancelled by {command.owner.user_name or 'unknown'}: {reason}"))
    draft.move(JobStage.CANCELLED)
    draft.ended_badly(JobFailed, error_messages=draft.job.errors, stage=JobStage.CANCELLED)
    return draft.decision()


def _due(job: Job, event: LaneDue, now: datetime) -> Decision:
    lane = job.lanes.get(event.lane_id)
    if lane is None or lane.lease != event.lease or lane.due_at is None or lane.due_at > now.timestamp():
        return Decision(job, refused="timer is void")
    if job.ended or (lane.state, Signal.DUE) not in LANE_TABLE:
        return Decision(job, refused="job has ended")
    draft = Draft(job, derived(lane.lease, "due", lane.state), now)
    if lane.state is LaneState.BACKOFF:
        draft.dispatch(lane, lane.attempt if lane.waiting else lane.attempt + 1, lane.polls if lane.waiting else 0)
        return draft.decision()
    draft.revoke(lane, "its time is over")
    if lane.state is LaneState.QUEUED:
        again(draft, lane, "timeout_queued", f"no worker took {job.step_of(lane).action} in time")
    else:
        again(draft, lane, "lease_expired", f"worker {lane.worker or 'unknown'} fell silent")
    return draft.decision()
