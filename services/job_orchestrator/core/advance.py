"""How a job moves on: into a step, past it, to a join, to its end.

Each function below makes one move: it changes the decision builder and returns the moves that follow. `advance` makes them all, one
after the other, so calls go one way: decide → advance → attempts → decision builder.
"""

from __future__ import annotations

from typing import assert_never

from contracts import FileStatus, JobStage
from contracts.job_events import JobExceededRetries, JobFailed, JobInvalid, JobRetry
from services.job_orchestrator.core import attempts
from services.job_orchestrator.core.condition import ConditionFailed, holds
from services.job_orchestrator.core.condition_facts import facts
from services.job_orchestrator.core.decision_builder import DecisionBuilder
from services.job_orchestrator.core.job import IN_FLIGHT, JOB_BRANCH, Branch, BranchState, Job, NeedsAllBranches, results_of
from services.job_orchestrator.core.moves import Enter, GiveUp, Leave, Move, Moves, Release, Retry, StepEnd
from services.job_orchestrator.core.policy import backoff_s, in_budget, may_retry
from services.job_orchestrator.core.workflow import Step

ERRORS_KEPT = 50
"""Error messages that a job keeps; later ones are dropped."""


def advance(builder: DecisionBuilder, move: Move) -> None:
    """Make `move`, and every move that follows from it. Raises `NeedsAllBranches` where the job's other branches are concerned."""
    # A stack, because what follows from one file's step comes before the next file's.
    pending: list[Move] = [move]
    while pending:
        pending.extend(reversed(_make(builder, pending.pop())))


def _rule_move(job: Job, branch: Branch, status: str, code: str | None) -> Move | None:
    """The move of the first rule that fits how the branch's step ended; None where no rule fits."""
    workflow, step = job.workflow, job.workflow.all_steps[branch.step]
    for rule in step.next:
        if rule.status == status and rule.code in (None, code):
            if rule.to == "fail":
                return GiveUp(branch, code or "next_fail", f"{step.name}: next says fail")
            end = workflow.run_end(branch.step)
            return Leave(branch, end if rule.to == "end" else workflow.target(branch.step, rule.to) or end)
    return None


def _make(builder: DecisionBuilder, move: Move) -> Moves:
    match move:
        case Enter():
            return _enter(builder, move.branch_id, move.step)
        case StepEnd():
            return [_rule_move(builder.job, move.branch, move.status, move.code) or move.otherwise]
        case Leave():
            return _leave(builder, move.branch, move.to)
        case Retry():
            return _retry(builder, move.branch, move.code, move.message)
        case GiveUp():
            return _give_up(builder, move.branch, move.code, move.message)
        case Release():
            return _release(builder, move.step)
        case _:
            assert_never(move)


def _enter(builder: DecisionBuilder, branch_id: str, index: int) -> Moves:
    """Start step `index`, or pass it by where its condition is false."""
    job = builder.job
    branch = builder.branches.get(branch_id) or Branch(branch_id)
    if branch.ended:
        # A condition of a file before this one ended the job, and with it this branch.
        return []
    step = job.workflow.all_steps[index]
    if step.when is not None:
        branch = builder.change_branch(branch, step=index)
        try:
            wanted = holds(step.when, facts(job, branch))
        except ConditionFailed as error:
            return [GiveUp(branch, "condition_failed", f"when of {step.name}: {error}")]
        if not wanted:
            skipped = {**branch.results, step.name: {"skipped": step.when}}
            return [Leave(builder.change_branch(branch, results=skipped), index + 1)]
    return _start(builder, branch, index, step)


def _start(builder: DecisionBuilder, branch: Branch, index: int, step: Step) -> Moves:
    """Begin the first attempt. The first branch in a step moves the job to the step's stage."""
    if index > builder.job.frontier:
        builder.change_job(frontier=index)
        builder.stage_reached(step.stage, step.name)
    timed = step.timeouts.total_s is not None or step.retry.budget_s is not None
    branch = builder.change_branch(branch, step=index, entered_at=builder.unix if timed else None)
    try:
        branch = attempts.start_attempt(builder, branch, step, attempt=1)
    except ConditionFailed as error:
        return [GiveUp(branch, "condition_failed", f"wait of {step.name}: {error}")]
    if step.file_status is not None and step.file_status != branch.status:
        builder.file_status(branch, step.file_status, role=step.name)
    return []


def _leave(builder: DecisionBuilder, branch: Branch, to: int) -> Moves:
    workflow = builder.job.workflow
    if to < workflow.run_end(branch.step):
        return [Enter(branch.id, to)]
    if branch.step >= len(workflow.steps):
        # The last rescue step: now the job ends as it would have without its rescue.
        builder.change_branch(branch, state=BranchState.DONE, due_at=None)
        assert builder.job.ending is not None
        end_badly(builder, builder.job.ending)
        return []
    if branch.id == JOB_BRANCH:
        last = to == len(workflow.steps)
        builder.change_branch(branch, state=BranchState.DONE if last else BranchState.ARRIVED, due_at=None)
        return [Release(to)]
    arrive(builder, branch, to)
    return _join(builder, to)


def arrive(builder: DecisionBuilder, branch: Branch, boundary: int) -> None:
    """Count a file's branch as arrived at step `boundary`, where files wait for each other; after the last file step it is done."""
    if boundary > builder.job.workflow.last_file_step():
        branch = builder.change_branch(branch, state=BranchState.DONE, due_at=None, status=FileStatus.FINISHED)
        builder.change_job(done=builder.job.done + 1)
        builder.file_done(branch)
    else:
        builder.change_branch(branch, state=BranchState.ARRIVED, due_at=None)
    builder.change_job(arrived=builder.job.arrived + 1)


def _join(builder: DecisionBuilder, boundary: int) -> Moves:
    """Go on to step `boundary` once every file that is still in has arrived there."""
    job = builder.job
    if job.live == 0:
        return _end(builder)
    return [Release(boundary)] if job.arrived == job.live else []


def _release(builder: DecisionBuilder, index: int) -> Moves:
    steps = builder.job.workflow.steps
    if index >= len(steps):
        return _end(builder)
    if steps[index].scope == "job":
        return [Enter(JOB_BRANCH, index)]
    need_all_branches(builder)
    builder.change_job(arrived=0)
    return [Enter(key, index) for key in builder.branches if key != JOB_BRANCH]


def _retry(builder: DecisionBuilder, branch: Branch, code: str, message: str) -> Moves:
    step = builder.job.step_of(branch)
    why = {"file_id": branch.id or None, "attempt": branch.attempt, "code": code, "message": message}
    due = builder.unix + backoff_s(step.retry, branch.attempt, branch.lease)
    if may_retry(step.retry, branch.attempt, code) and in_budget(step.retry, branch.entered_at, due):
        due_at = attempts.deadline(step.timeouts, branch.entered_at, due)
        builder.change_branch(branch, state=BranchState.BACKOFF, due_at=due_at, worker=None)
        builder.change_job(retries=builder.job.retries + 1)
        builder.job_problem(JobRetry, step=step.name, retry_at=round(due, 3), **why)
        return []
    builder.remember_step_end(step, "ERR", code, message)
    move = _rule_move(builder.job, branch, "ERR", code)
    if move is not None:
        return [move]
    if step.retry.max_attempts <= branch.attempt and step.retry.max_attempts > 1:
        builder.change_job(exceeded_retries=True)
        builder.job_problem(JobExceededRetries, step=step.name, **why)
    return [GiveUp(branch, code, message)]


def _give_up(builder: DecisionBuilder, branch: Branch, code: str, message: str) -> Moves:
    step = builder.job.step_of(branch)
    state = BranchState.INVALID if step.validates else BranchState.FAILED
    status = FileStatus.INVALID if step.validates else FileStatus.FAILED
    branch = builder.change_branch(branch, state=state, status=status, due_at=None)
    builder.file_failed(branch, status, code, message)
    name = branch.file.file_name if branch.file else step.name
    builder.change_job(errors=(*builder.job.errors, f"{name}: {message} [{code}]")[:ERRORS_KEPT])
    if branch.id == JOB_BRANCH:
        return _fail(builder, state, "a job step failed")
    builder.change_job(**{state.value: getattr(builder.job, state.value) + 1})
    if _too_few(builder.job):
        return _fail(builder, state, f"{name} failed")
    return _join(builder, builder.job.workflow.run_end(branch.step))


def _too_few(job: Job) -> bool:
    workflow = job.workflow
    return workflow.join == "all" or (workflow.quorum is not None and job.live < min(workflow.quorum, job.total))


def _fail(builder: DecisionBuilder, state: BranchState, reason: str) -> Moves:
    """End the job because a branch ended in `state`."""
    withdraw(builder, reason)
    return _rescue(builder, JobStage.INVALID if state is BranchState.INVALID else JobStage.FAILED)


def _end(builder: DecisionBuilder) -> Moves:
    """The steps are through: end the job by what became of its files."""
    job = builder.job
    if job.total and not job.live:
        return _rescue(builder, JobStage.INVALID if job.invalid == job.total else JobStage.FAILED)
    builder.stage_reached(JobStage.COMPLETED)
    builder.job_finished()
    builder.parent_report()
    return []


def _rescue(builder: DecisionBuilder, stage: JobStage) -> Moves:
    """End the job at `stage`, after its rescue steps unless they have started or there are none."""
    job = builder.job
    if not job.workflow.rescue or job.ending is not None:
        end_badly(builder, job.ending or stage)
        return []
    builder.change_job(ending=stage)
    first = len(job.workflow.steps)
    results = builder.branches[JOB_BRANCH].results if JOB_BRANCH in builder.branches else {}
    failure = {
        "stage": stage.value,
        "errors": list(builder.job.errors),
        "failed": builder.job.failed,
        "invalid": builder.job.invalid,
    }
    builder.change_branch(Branch(JOB_BRANCH, step=first, results={**results, "failure": failure}))
    return [Enter(JOB_BRANCH, first)]


def end_badly(builder: DecisionBuilder, stage: JobStage) -> None:
    """The last events of a job that ends at `stage`: failed, invalid or cancelled."""
    builder.stage_reached(stage)
    model = JobInvalid if stage is JobStage.INVALID else JobFailed
    results = results_of(builder.job, builder.branches.get(JOB_BRANCH))
    builder.job_problem(model, error_messages=builder.job.errors, stage=stage, file_ends=builder.job.file_ends, results=results)
    builder.parent_report()


def withdraw(builder: DecisionBuilder, reason: str) -> None:
    """Cancel every branch that has not ended, and its task or child job. Raises `NeedsAllBranches`."""
    need_all_branches(builder)
    for branch in list(builder.branches.values()):
        if branch.ended:
            continue
        if branch.state in IN_FLIGHT:
            attempts.revoke(builder, branch, reason)
        branch = builder.change_branch(branch, state=BranchState.CANCELLED, due_at=None)
        if branch.id != JOB_BRANCH:
            builder.change_job(cancelled=builder.job.cancelled + 1)
            builder.file_status(branch, FileStatus.CANCELLED, role="cancelled")


def need_all_branches(builder: DecisionBuilder) -> None:
    """Raises `NeedsAllBranches` unless every file's branch is loaded."""
    if sum(1 for key in builder.branches if key != JOB_BRANCH) < builder.job.total:
        raise NeedsAllBranches
