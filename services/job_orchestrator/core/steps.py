"""How lanes move: into a step, on to the next, to the join, to the end. Used by `decide` and the verbs."""

from __future__ import annotations

from contracts import FileStatus
from contracts.file_events import FileDone
from contracts.job_events import JobExceededRetries, JobRetry
from services.job_orchestrator.core.condition import ConditionFailed, holds
from services.job_orchestrator.core.condition_facts import facts
from services.job_orchestrator.core.decision_builder import Draft
from services.job_orchestrator.core.ending import all_loaded, close, end_badly
from services.job_orchestrator.core.job import JOB_LANE, Job, Lane, LaneState, outputs_of
from services.job_orchestrator.core.policy import backoff_s, in_budget, may_retry

ERRORS_KEPT = 50


def enter(draft: Draft, lane: Lane, index: int) -> None:
    """Start step `index` on a lane, or pass it by where its condition is false. The first lane moves the job: JobStageUpdate."""
    step = draft.job.workflow.all_steps[index]
    if step.when is not None:
        lane = draft.put(lane, step=index)
        try:
            wanted = holds(step.when, facts(draft.job, lane))
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
    timed = step.timeouts.total_s is not None or step.retry.budget_s is not None
    lane = draft.put(lane, step=index, entered_at=draft.unix if timed else None)
    try:
        lane = draft.dispatch(lane, attempt=1)
    except ConditionFailed as error:
        give_up(draft, lane, "condition_failed", f"wait of {step.name}: {error}")
        return
    if step.file_status is not None and step.file_status != lane.status:
        draft.status(lane, step.file_status, role=step.name)


def ended_with(draft: Draft, lane: Lane, status: str, code: str | None) -> bool:
    """Follow the first rule of the lane's step that fits; False when there is none, and the usual way applies."""
    workflow = draft.job.workflow
    for rule in draft.job.step_of(lane).next:
        if rule.status == status and rule.code in (None, code):
            if rule.to == "fail":
                give_up(draft, lane, code or "next_fail", f"{draft.job.step_of(lane).name}: next says fail")
            else:
                end = workflow.run_end(lane.step)
                go_on(draft, lane, end if rule.to == "end" else workflow.target(lane.step, rule.to) or end)
            return True
    return False


def advance(draft: Draft, lane: Lane) -> None:
    """The lane's step has ended well: go on to the next step of its kind, or wait for the others."""
    go_on(draft, lane, lane.step + 1)


def go_on(draft: Draft, lane: Lane, following: int) -> None:
    """Take the lane to step `following`, which is of its run or right after it."""
    job = draft.job
    if lane.step >= len(job.workflow.steps):
        _rescue_on(draft, lane, following)
    elif following < job.workflow.run_end(lane.step):
        enter(draft, lane, following)
    elif lane.id == JOB_LANE:
        last = following == len(job.workflow.steps)
        draft.put(lane, state=LaneState.DONE if last else LaneState.ARRIVED, due_at=None)
        release(draft, following)
    else:
        arrive(draft, lane, following)


def _rescue_on(draft: Draft, lane: Lane, following: int) -> None:
    if following < len(draft.job.workflow.all_steps):
        enter(draft, lane, following)
        return
    draft.put(lane, state=LaneState.DONE, due_at=None)
    assert draft.job.ending is not None
    end_badly(draft, draft.job.ending)


def arrive(draft: Draft, lane: Lane, boundary: int) -> None:
    """A file lane has reached a job step or the end."""
    settle(draft, lane, boundary)
    join(draft, boundary)


def settle(draft: Draft, lane: Lane, boundary: int) -> None:
    """Count a file lane as arrived at `boundary`."""
    if boundary > draft.job.workflow.last_file_step():
        draft.put(lane, state=LaneState.DONE, due_at=None, status=FileStatus.FINISHED)
        draft.change(done=draft.job.done + 1)
        _file_done(draft, draft.lanes[lane.id])
    else:
        draft.put(lane, state=LaneState.ARRIVED, due_at=None)
    draft.change(arrived=draft.job.arrived + 1)


def _file_done(draft: Draft, lane: Lane) -> None:
    assert lane.file is not None
    merged = {key: value for result in lane.results.values() for key, value in result.items()}
    draft.file_event(
        FileDone, lane, file_id=lane.file.file_id, blob_name=lane.file.blob_name or "", blob_url=lane.file.blob_url,
        tag_id=lane.tag, tag_name=lane.tag, file_status=FileStatus.FINISHED, result_blob=merged.get("result_blob"),
        text_blob=merged.get("text_blob"), index_blob=merged.get("index_blob"), outputs=outputs_of(lane),
    )  # fmt: skip


def join(draft: Draft, boundary: int) -> None:
    """Go on with the job once every file that is still in has arrived at step `boundary`."""
    job = draft.job
    if job.live == 0:
        start_rescue_or_close(draft)
    elif job.arrived == job.live:
        release(draft, boundary)


def release(draft: Draft, index: int) -> None:
    """Start step `index` for whoever runs it: the job's own lane, or every file that is still in; or end the job."""
    job = draft.job
    if index >= len(job.workflow.steps):
        start_rescue_or_close(draft)
    elif job.workflow.steps[index].scope == "job":
        enter(draft, draft.lanes.get(JOB_LANE) or Lane(JOB_LANE), index)
    else:
        all_loaded(draft)
        draft.change(arrived=0)
        for key in list(draft.lanes):
            # One file's condition may have ended the job, and with it the others.
            lane = draft.lanes[key]
            if lane.id != JOB_LANE and not lane.ended and not draft.job.ended and draft.job.ending is None:
                enter(draft, lane, index)


def start_rescue_or_close(draft: Draft) -> None:
    """The steps are through: end the job by what became of its files, after its rescue if that is badly."""
    rescue = close(draft)
    if rescue is not None:
        enter(draft, rescue, len(draft.job.workflow.steps))


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
        _fail_job(draft, state, "a job step failed")
        return
    field = "invalid" if state is LaneState.INVALID else "failed"
    draft.change(**{field: getattr(draft.job, field) + 1})
    if _too_few(draft.job):
        _fail_job(draft, state, f"{name} failed")
    else:
        join(draft, draft.job.workflow.run_end(lane.step))


def _too_few(job: Job) -> bool:
    workflow = job.workflow
    return workflow.join == "all" or (workflow.quorum is not None and job.live < min(workflow.quorum, job.total))


def _fail_job(draft: Draft, state: LaneState, reason: str) -> None:
    rescue = close(draft, state, reason)
    if rescue is not None:
        enter(draft, rescue, len(draft.job.workflow.steps))


def again(draft: Draft, lane: Lane, code: str, message: str) -> None:
    """An attempt failed in a way that may pass: wait and try again, or give up when the attempts are spent."""
    step = draft.job.step_of(lane)
    why = {"file_id": lane.id or None, "attempt": lane.attempt, "code": code, "message": message}
    due = draft.unix + backoff_s(step.retry, lane.attempt, lane.lease)
    if may_retry(step.retry, lane.attempt, code) and in_budget(step.retry, lane.entered_at, due):
        draft.put(lane, state=LaneState.BACKOFF, due_at=draft.bounded(lane, due), worker=None)
        draft.change(retries=draft.job.retries + 1)
        draft.ended_badly(JobRetry, step=step.name, retry_at=round(due, 3), **why)
        return
    draft.step_ended(lane, "ERR", code, message)
    if ended_with(draft, lane, "ERR", code):
        return
    if step.retry.max_attempts <= lane.attempt and step.retry.max_attempts > 1:
        draft.change(exceeded_retries=True)
        draft.ended_badly(JobExceededRetries, step=step.name, **why)
    give_up(draft, lane, code, message)
