"""How lanes move: into a step, on to the next, to the join, to the end. Used by `decide` alone."""

from __future__ import annotations

from typing import Any

from contracts import FileStatus, JobStage
from contracts.file_events import FileDone
from contracts.job_events import JobExceededRetries, JobFailed, JobInvalid, JobRetry
from services.job_orchestrator.core.condition import ConditionFailed, holds
from services.job_orchestrator.core.draft import Draft
from services.job_orchestrator.core.job import JOB_LANE, Job, Lane, LaneState, NeedsAllLanes
from services.job_orchestrator.core.policy import backoff_s, may_retry

ERRORS_KEPT = 50


def enter(draft: Draft, lane: Lane, index: int) -> None:
    """Start step `index` on a lane, or pass it by where its condition is false. The first lane moves the job: JobStageUpdate."""
    step = draft.job.workflow.steps[index]
    if step.when is not None:
        lane = draft.put(lane, step=index)
        try:
            wanted = holds(step.when, facts(draft, lane))
        except ConditionFailed as error:
            give_up(draft, lane, "condition_failed", f"when of {step.name}: {error}")
            return
        if not wanted:
            # Told like a result, so that whoever asks why a step has none finds the reason.
            skipped = {**lane.results, step.name: {"skipped": step.when}}
            advance(draft, draft.put(lane, results=skipped))
            return
    if index > draft.job.frontier:
        draft.change(frontier=index)
        draft.move(step.stage, step.name)
    lane = draft.dispatch(draft.put(lane, step=index), attempt=1)
    if step.file_status is not None and step.file_status != lane.status:
        draft.status(lane, step.file_status, role=step.name)


def facts(draft: Draft, lane: Lane) -> dict[str, Any]:
    """What a condition may ask about, as plain values."""
    job, file = draft.job, lane.file
    kind = {"type": file.content_type, "name": file.file_name, "size": file.size, "metadata": file.metadata} if file else None
    return {
        "file": kind, "tag": lane.tag, "score": lane.score, "metadata": job.request.metadata, "results": lane.results,
        "job": {
            "files": job.total, "done": job.done, "failed": job.failed + job.invalid, "priority": job.request.priority,
            "tenant": job.owner.tenant_id, "retries": job.retries,
        },
    }  # fmt: skip


def advance(draft: Draft, lane: Lane) -> None:
    """The lane's step has ended well: go on to the next step of its kind, or wait for the others."""
    steps = draft.job.workflow.steps
    following = lane.step + 1
    if following < len(steps) and (steps[following].scope == "job") == (lane.id == JOB_LANE):
        enter(draft, lane, following)
    elif lane.id == JOB_LANE:
        draft.put(lane, state=LaneState.DONE if following == len(steps) else LaneState.ARRIVED, due_at=None)
        release(draft, following)
    else:
        arrive(draft, lane, following)


def arrive(draft: Draft, lane: Lane, boundary: int) -> None:
    """A file lane has reached a job step or the end."""
    if boundary > draft.job.workflow.last_file_step():
        draft.put(lane, state=LaneState.DONE, due_at=None, status=FileStatus.FINISHED)
        draft.change(done=draft.job.done + 1)
        _file_done(draft, draft.lanes[lane.id])
    else:
        draft.put(lane, state=LaneState.ARRIVED, due_at=None)
    draft.change(arrived=draft.job.arrived + 1)
    join(draft, boundary)


def _file_done(draft: Draft, lane: Lane) -> None:
    assert lane.file is not None
    merged = {key: value for result in lane.results.values() for key, value in result.items()}
    draft.file_event(
        FileDone, lane, file_id=lane.file.file_id, blob_name=lane.file.blob_name or "", blob_url=lane.file.blob_url,
        tag_id=lane.tag, tag_name=lane.tag, file_status=FileStatus.FINISHED, result_blob=merged.get("result_blob"),
        text_blob=merged.get("text_blob"), index_blob=merged.get("index_blob"),
    )  # fmt: skip


def join(draft: Draft, boundary: int) -> None:
    """Go on with the job once every file that is still in has arrived at step `boundary`."""
    job = draft.job
    if job.live == 0:
        close(draft)
    elif job.arrived == job.live:
        release(draft, boundary)


def _boundary(job: Job, index: int) -> int:
    """The step after the run of file steps that step `index` is in."""
    steps = job.workflow.steps
    while index < len(steps) and steps[index].scope == "file":
        index += 1
    return index


def release(draft: Draft, index: int) -> None:
    """Start step `index` for whoever runs it: the job's own lane, or every file that is still in; or end the job."""
    job = draft.job
    if index >= len(job.workflow.steps):
        close(draft)
    elif job.workflow.steps[index].scope == "job":
        enter(draft, draft.lanes.get(JOB_LANE) or Lane(JOB_LANE), index)
    else:
        _all_loaded(draft)
        draft.change(arrived=0)
        for key in list(draft.lanes):
            # One file's condition may have ended the job, and with it the others.
            lane = draft.lanes[key]
            if lane.id != JOB_LANE and not lane.ended and not draft.job.ended:
                enter(draft, lane, index)


def _all_loaded(draft: Draft) -> None:
    if sum(1 for key in draft.lanes if key != JOB_LANE) < draft.job.total:
        raise NeedsAllLanes


def close(draft: Draft) -> None:
    """End the job by what became of its files."""
    job = draft.job
    if job.total and not job.live and job.invalid == job.total:
        draft.move(JobStage.INVALID)
        draft.ended_badly(JobInvalid, error_messages=job.errors, stage=JobStage.INVALID)
    elif job.total and not job.live:
        draft.move(JobStage.FAILED)
        draft.ended_badly(JobFailed, error_messages=job.errors, stage=JobStage.FAILED)
    else:
        draft.move(JobStage.COMPLETED)
        draft.finished()


def give_up(draft: Draft, lane: Lane, code: str, message: str) -> None:
    """A lane ends in failure: the file drops out, or takes the job with it."""
    step = draft.job.step_of(lane)
    state = LaneState.INVALID if step.validates else LaneState.FAILED
    status = FileStatus.INVALID if step.validates else FileStatus.FAILED
    lane = draft.put(lane, state=state, status=status, due_at=None)
    draft.file_failed(lane, status, code, message)
    name = lane.file.file_name if lane.file else step.name
    draft.change(errors=(*draft.job.errors, f"{name}: {message} [{code}]")[:ERRORS_KEPT])
    if lane.id == JOB_LANE:
        _end_now(draft, state, "a job step failed")
        return
    field = "invalid" if state is LaneState.INVALID else "failed"
    draft.change(**{field: getattr(draft.job, field) + 1})
    if draft.job.workflow.join == "all":
        _end_now(draft, state, f"{name} failed")
    else:
        join(draft, _boundary(draft.job, lane.step))


def _end_now(draft: Draft, state: LaneState, reason: str) -> None:
    withdraw(draft, reason)
    invalid = state is LaneState.INVALID
    stage = JobStage.INVALID if invalid else JobStage.FAILED
    draft.move(stage)
    draft.ended_badly(JobInvalid if invalid else JobFailed, error_messages=draft.job.errors, stage=stage)


def withdraw(draft: Draft, reason: str) -> None:
    """Cancel every lane that has not ended and tell the workers that hold one."""
    _all_loaded(draft)
    for lane in list(draft.lanes.values()):
        if lane.ended:
            continue
        if lane.state in (LaneState.QUEUED, LaneState.RUNNING):
            draft.revoke(lane, reason)
        lane = draft.put(lane, state=LaneState.CANCELLED, due_at=None)
        if lane.id != JOB_LANE:
            draft.change(cancelled=draft.job.cancelled + 1)
            draft.status(lane, FileStatus.CANCELLED, role="cancelled")


def again(draft: Draft, lane: Lane, code: str, message: str) -> None:
    """An attempt failed in a way that may pass: wait and try again, or give up when the attempts are spent."""
    step = draft.job.step_of(lane)
    why = {"file_id": lane.id or None, "attempt": lane.attempt, "code": code, "message": message}
    if may_retry(step.retry, lane.attempt, code):
        due = draft.unix + backoff_s(step.retry, lane.attempt, lane.lease)
        draft.put(lane, state=LaneState.BACKOFF, due_at=due, worker=None)
        draft.change(retries=draft.job.retries + 1)
        draft.ended_badly(JobRetry, step=step.name, retry_at=round(due, 3), **why)
        return
    if step.retry.max_attempts <= lane.attempt and step.retry.max_attempts > 1:
        draft.change(exceeded_retries=True)
        draft.ended_badly(JobExceededRetries, step=step.name, **why)
    give_up(draft, lane, code, message)
