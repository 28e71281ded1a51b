"""What people do to a running job: cancel, terminate, pause, resume, retry now, poke. Each changes it or is refused."""

from __future__ import annotations

from datetime import datetime

from contracts import CancelJob, JobStage, PauseJob, PokeJob, ResumeJob, RetryJobNow, TerminateJob
from contracts.job_control import JobVerb
from contracts.job_events import JobFailed
from services.job_orchestrator.core.apply_result import apply_result
from services.job_orchestrator.core.decision_builder import Credits, Draft
from services.job_orchestrator.core.ending import all_loaded, withdraw
from services.job_orchestrator.core.job import LANE_TABLE, Decision, Job, Lane, LaneState, Signal
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
    draft = Draft(job, command.message_id, now)
    reason = command.reason or word
    withdraw(draft, reason)
    draft.change(errors=(*job.errors, f"{word} by {command.owner.user_name or 'unknown'}: {reason}"), paused_by=None)
    draft.move(stage)
    draft.ended_badly(JobFailed, error_messages=draft.job.errors, stage=stage, file_ends=draft.job.file_ends)
    draft.tell_parent()
    return draft.decision()


def pause(job: Job, command: PauseJob, now: datetime, credits: Credits) -> Decision:
    """Hand out nothing more. What workers have may end; time-outs of whole steps go on."""
    refused = _refusal(job, command)
    if refused is not None:
        return refused
    if job.paused_by is not None:
        return Decision(job, refused="job is paused")
    draft = Draft(job, command.message_id, now)
    all_loaded(draft)
    draft.change(paused_by=command.owner.user_name or "unknown", paused_reason=command.reason, paused_at=draft.unix)
    _touch_ready(draft)
    draft.note("pause", command.owner.user_name, command.reason)
    return draft.decision()


def resume(job: Job, command: ResumeJob, now: datetime, credits: Credits) -> Decision:
    """What was ready queues up again."""
    refused = _refusal(job, command)
    if refused is not None:
        return refused
    if job.paused_by is None:
        return Decision(job, refused="job is not paused")
    draft = Draft(job, command.message_id, now, credits)
    all_loaded(draft)
    draft.change(paused_by=None, paused_reason="", paused_at=None)
    _touch_ready(draft)
    draft.note("resume", command.owner.user_name, command.reason)
    return draft.decision()


def _touch_ready(draft: Draft) -> None:
    # Written again, so that the store enters them among those that wait for credits, or takes them out.
    for lane in list(draft.lanes.values()):
        if lane.state is LaneState.READY:
            draft.put(lane, since=draft.unix)


def retry_now(job: Job, command: RetryJobNow, now: datetime, credits: Credits) -> Decision:
    """Begin the next attempt of what is in back-off at once."""
    refused = _refusal(job, command)
    if refused is not None:
        return refused
    draft = Draft(job, command.message_id, now, credits)
    if command.file_id is None:
        all_loaded(draft)
    lanes = [x for x in draft.lanes.values() if x.state is LaneState.BACKOFF and command.file_id in (None, x.id)]
    if not lanes:
        return Decision(job, refused="nothing waits for a retry")
    for lane in lanes:
        draft.dispatch(lane, lane.attempt if lane.waiting else lane.attempt + 1, lane.polls if lane.waiting else 0)
    draft.note("retry", command.owner.user_name, command.reason)
    return draft.decision()


def poke(job: Job, command: PokeJob, now: datetime, credits: Credits) -> Decision:
    """What wait steps wait for has happened, or will not."""
    refused = _refusal(job, command)
    if refused is not None:
        return refused
    draft = Draft(job, command.message_id, now, credits)
    if command.file_id is None:
        all_loaded(draft)
    waiting = [lane for lane in draft.lanes.values() if _waits(draft, lane, command)]
    lanes = [lane for lane in waiting if command.approval or not _needs_approval(draft, lane)]
    if not lanes:
        return Decision(job, refused="approval is for operators" if waiting else "nothing waits for it")
    draft.note("poke", command.owner.user_name, command.message or "")
    for lane in lanes:
        # One lane's end may have been the end of the job.
        if not draft.job.ended and draft.lanes[lane.id].lease == lane.lease and _waits(draft, draft.lanes[lane.id], command):
            try:
                _answer(draft, draft.lanes[lane.id], command)
            except (ValueError, TypeError):
                return Decision(job, refused="data is not what a step may give")
    return draft.decision()


def _waits(draft: Draft, lane: Lane, command: PokeJob) -> bool:
    if (lane.state, Signal.POKE) not in LANE_TABLE or draft.job.stage is JobStage.QUEUED:
        return False
    step = draft.job.step_of(lane)
    return (
        step.wait is not None
        and step.wait.kind != "time"
        and command.step in (None, step.name)
        and command.file_id in (None, lane.id)
    )


def _needs_approval(draft: Draft, lane: Lane) -> bool:
    wait = draft.job.step_of(lane).wait
    return wait is not None and wait.kind == "approval"


def _answer(draft: Draft, lane: Lane, command: PokeJob) -> None:
    step = draft.job.step_of(lane).name
    by = {"by": command.owner.user_name, **({"message": command.message} if command.message else {})}
    if command.outcome == "OK":
        lane = apply_result(draft, lane, step, {**command.data, **by})
        if not ended_with(draft, lane, "OK", command.code):
            advance(draft, lane)
    elif not ended_with(draft, lane, "KO", command.code):
        give_up(draft, lane, command.code or "rejected", command.message or f"{step}: rejected by {by['by'] or 'unknown'}")
