"""How a job ends: well, badly, or badly after its rescue steps."""

from __future__ import annotations

from contracts import FileStatus, JobStage
from contracts.job_events import JobFailed, JobInvalid
from services.job_orchestrator.core.decision_builder import Draft
from services.job_orchestrator.core.job import IN_FLIGHT, JOB_LANE, Lane, LaneState, NeedsAllLanes


def all_loaded(draft: Draft) -> None:
    """Raises `NeedsAllLanes` unless every lane is there."""
    if sum(1 for key in draft.lanes if key != JOB_LANE) < draft.job.total:
        raise NeedsAllLanes


def close(draft: Draft, state: LaneState | None = None, reason: str = "") -> Lane | None:
    """End the job: because a lane ended in `state`, or else by what became of its files.

    Returns the job's lane when it is to run its rescue steps first; the caller enters the first of them.
    """
    job = draft.job
    if state is not None:
        withdraw(draft, reason)
        stage = JobStage.INVALID if state is LaneState.INVALID else JobStage.FAILED
    elif job.total and not job.live:
        stage = JobStage.INVALID if job.invalid == job.total else JobStage.FAILED
    else:
        draft.move(JobStage.COMPLETED)
        draft.finished()
        draft.tell_parent()
        return None
    if job.workflow.rescue and job.ending is None:
        draft.change(ending=stage)
        return _rescue_lane(draft, stage)
    end_badly(draft, job.ending or stage)
    return None


def _rescue_lane(draft: Draft, stage: JobStage) -> Lane:
    old = draft.lanes.get(JOB_LANE) or Lane(JOB_LANE)
    failure = {"stage": stage.value, "errors": list(draft.job.errors), "failed": draft.job.failed, "invalid": draft.job.invalid}
    return draft.put(Lane(JOB_LANE, step=len(draft.job.workflow.steps), results={**old.results, "failure": failure}))


def end_badly(draft: Draft, stage: JobStage) -> None:
    """The job's last events."""
    draft.move(stage)
    model = JobInvalid if stage is JobStage.INVALID else JobFailed
    draft.ended_badly(model, error_messages=draft.job.errors, stage=stage, file_ends=draft.job.file_ends)
    draft.tell_parent()


def withdraw(draft: Draft, reason: str) -> None:
    """Cancel every lane that has not ended and tell the workers that hold one."""
    all_loaded(draft)
    for lane in list(draft.lanes.values()):
        if lane.ended:
            continue
        if lane.state in IN_FLIGHT:
            draft.revoke(lane, reason)
        lane = draft.put(lane, state=LaneState.CANCELLED, due_at=None)
        if lane.id != JOB_LANE:
            draft.change(cancelled=draft.job.cancelled + 1)
            draft.status(lane, FileStatus.CANCELLED, role="cancelled")
