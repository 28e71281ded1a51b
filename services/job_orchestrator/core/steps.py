"""How branches move: into a step, on to the next, to the join, to the end. Used by `decide` and the verbs."""

from __future__ import annotations

from contracts import FileStatus
from contracts.file_events import FileDone
from contracts.job_events import JobExceededRetries, JobRetry
from services.job_orchestrator.core.condition import ConditionFailed, holds
from services.job_orchestrator.core.condition_facts import facts
from services.job_orchestrator.core.decision_builder import DecisionBuilder
from services.job_orchestrator.core.ending import all_loaded, close, end_badly
from services.job_orchestrator.core.job import JOB_BRANCH, Branch, BranchState, Job, outputs_of
from services.job_orchestrator.core.policy import backoff_s, in_budget, may_retry

ERRORS_KEPT = 50


def enter(builder: DecisionBuilder, branch: Branch, index: int) -> None:
    """Start step `index` on a branch, or pass it by where its condition is false. The first branch moves the job: JobStageUpdate."""
    step = builder.job.workflow.all_steps[index]
    if step.when is not None:
        branch = builder.put(branch, step=index)
        try:
            wanted = holds(step.when, facts(builder.job, branch))
        except ConditionFailed as error:
            give_up(builder, branch, "condition_failed", f"when of {step.name}: {error}")
            return
        if not wanted:
            # Told like a result, so that whoever asks why a step has none finds the reason.
            skipped = {**branch.results, step.name: {"skipped": step.when}}
            advance(builder, builder.put(branch, results=skipped))
            return
    if index > builder.job.frontier:
        builder.change(frontier=index)
        builder.move(step.stage, step.name)
    timed = step.timeouts.total_s is not None or step.retry.budget_s is not None
    branch = builder.put(branch, step=index, entered_at=builder.unix if timed else None)
    try:
        branch = builder.dispatch(branch, attempt=1)
    except ConditionFailed as error:
        give_up(builder, branch, "condition_failed", f"wait of {step.name}: {error}")
        return
    if step.file_status is not None and step.file_status != branch.status:
        builder.status(branch, step.file_status, role=step.name)


def ended_with(builder: DecisionBuilder, branch: Branch, status: str, code: str | None) -> bool:
    """Follow the first rule of the branch's step that fits; False when there is none, and the usual way applies."""
    workflow = builder.job.workflow
    for rule in builder.job.step_of(branch).next:
        if rule.status == status and rule.code in (None, code):
            if rule.to == "fail":
                give_up(builder, branch, code or "next_fail", f"{builder.job.step_of(branch).name}: next says fail")
            else:
                end = workflow.run_end(branch.step)
                go_on(builder, branch, end if rule.to == "end" else workflow.target(branch.step, rule.to) or end)
            return True
    return False


def advance(builder: DecisionBuilder, branch: Branch) -> None:
    """The branch's step has ended well: go on to the next step of its kind, or wait for the others."""
    go_on(builder, branch, branch.step + 1)


def go_on(builder: DecisionBuilder, branch: Branch, following: int) -> None:
    """Take the branch to step `following`, which is of its run or right after it."""
    job = builder.job
    if branch.step >= len(job.workflow.steps):
        _rescue_on(builder, branch, following)
    elif following < job.workflow.run_end(branch.step):
        enter(builder, branch, following)
    elif branch.id == JOB_BRANCH:
        last = following == len(job.workflow.steps)
        builder.put(branch, state=BranchState.DONE if last else BranchState.ARRIVED, due_at=None)
        release(builder, following)
    else:
        arrive(builder, branch, following)


def _rescue_on(builder: DecisionBuilder, branch: Branch, following: int) -> None:
    if following < len(builder.job.workflow.all_steps):
        enter(builder, branch, following)
        return
    builder.put(branch, state=BranchState.DONE, due_at=None)
    assert builder.job.ending is not None
    end_badly(builder, builder.job.ending)


def arrive(builder: DecisionBuilder, branch: Branch, boundary: int) -> None:
    """A file branch has reached a job step or the end."""
    settle(builder, branch, boundary)
    join(builder, boundary)


def settle(builder: DecisionBuilder, branch: Branch, boundary: int) -> None:
    """Count a file branch as arrived at `boundary`."""
    if boundary > builder.job.workflow.last_file_step():
        builder.put(branch, state=BranchState.DONE, due_at=None, status=FileStatus.FINISHED)
        builder.change(done=builder.job.done + 1)
        _file_done(builder, builder.branches[branch.id])
    else:
        builder.put(branch, state=BranchState.ARRIVED, due_at=None)
    builder.change(arrived=builder.job.arrived + 1)


def _file_done(builder: DecisionBuilder, branch: Branch) -> None:
    assert branch.file is not None
    merged = {key: value for result in branch.results.values() for key, value in result.items()}
    builder.file_event(
        FileDone, branch, file_id=branch.file.file_id, blob_name=branch.file.blob_name or "", blob_url=branch.file.blob_url,
        tag_id=branch.tag, tag_name=branch.tag, file_status=FileStatus.FINISHED, result_blob=merged.get("result_blob"),
        text_blob=merged.get("text_blob"), index_blob=merged.get("index_blob"), outputs=outputs_of(branch),
    )  # fmt: skip


def join(builder: DecisionBuilder, boundary: int) -> None:
    """Go on with the job once every file that is still in has arrived at step `boundary`."""
    job = builder.job
    if job.live == 0:
        start_rescue_or_close(builder)
    elif job.arrived == job.live:
        release(builder, boundary)


def release(builder: DecisionBuilder, index: int) -> None:
    """Start step `index` for whoever runs it: the job's own branch, or every file that is still in; or end the job."""
    job = builder.job
    if index >= len(job.workflow.steps):
        start_rescue_or_close(builder)
    elif job.workflow.steps[index].scope == "job":
        enter(builder, builder.branches.get(JOB_BRANCH) or Branch(JOB_BRANCH), index)
    else:
        all_loaded(builder)
        builder.change(arrived=0)
        for key in list(builder.branches):
            # One file's condition may have ended the job, and with it the others.
            branch = builder.branches[key]
            if branch.id != JOB_BRANCH and not branch.ended and not builder.job.ended and builder.job.ending is None:
                enter(builder, branch, index)


def start_rescue_or_close(builder: DecisionBuilder) -> None:
    """The steps are through: end the job by what became of its files, after its rescue if that is badly."""
    rescue = close(builder)
    if rescue is not None:
        enter(builder, rescue, len(builder.job.workflow.steps))


def give_up(builder: DecisionBuilder, branch: Branch, code: str, message: str) -> None:
    """A branch ends in failure: the file drops out, or takes the job with it."""
    step = builder.job.step_of(branch)
    state = BranchState.INVALID if step.validates else BranchState.FAILED
    status = FileStatus.INVALID if step.validates else FileStatus.FAILED
    branch = builder.put(branch, state=state, status=status, due_at=None)
    builder.file_failed(branch, status, code, message)
    name = branch.file.file_name if branch.file else step.name
    builder.change(errors=(*builder.job.errors, f"{name}: {message} [{code}]")[:ERRORS_KEPT])
    if branch.id == JOB_BRANCH:
        _fail_job(builder, state, "a job step failed")
        return
    field = "invalid" if state is BranchState.INVALID else "failed"
    builder.change(**{field: getattr(builder.job, field) + 1})
    if _too_few(builder.job):
        _fail_job(builder, state, f"{name} failed")
    else:
        join(builder, builder.job.workflow.run_end(branch.step))


def _too_few(job: Job) -> bool:
    workflow = job.workflow
    return workflow.join == "all" or (workflow.quorum is not None and job.live < min(workflow.quorum, job.total))


def _fail_job(builder: DecisionBuilder, state: BranchState, reason: str) -> None:
    rescue = close(builder, state, reason)
    if rescue is not None:
        enter(builder, rescue, len(builder.job.workflow.steps))


def again(builder: DecisionBuilder, branch: Branch, code: str, message: str) -> None:
    """An attempt failed in a way that may pass: wait and try again, or give up when the attempts are spent."""
    step = builder.job.step_of(branch)
    why = {"file_id": branch.id or None, "attempt": branch.attempt, "code": code, "message": message}
    due = builder.unix + backoff_s(step.retry, branch.attempt, branch.lease)
    if may_retry(step.retry, branch.attempt, code) and in_budget(step.retry, branch.entered_at, due):
        builder.put(branch, state=BranchState.BACKOFF, due_at=builder.bounded(branch, due), worker=None)
        builder.change(retries=builder.job.retries + 1)
        builder.ended_badly(JobRetry, step=step.name, retry_at=round(due, 3), **why)
        return
    builder.step_ended(branch, "ERR", code, message)
    if ended_with(builder, branch, "ERR", code):
        return
    if step.retry.max_attempts <= branch.attempt and step.retry.max_attempts > 1:
        builder.change(exceeded_retries=True)
        builder.ended_badly(JobExceededRetries, step=step.name, **why)
    give_up(builder, branch, code, message)
