"""One attempt at a step: leased, then given to a worker, to time or to a child job; and taken back."""

from __future__ import annotations

from typing import Any

from contracts import derived
from contracts.work import MAX_FILES
from services.job_orchestrator.core.condition import ConditionFailed, moment
from services.job_orchestrator.core.condition_facts import facts
from services.job_orchestrator.core.decision_builder import DecisionBuilder
from services.job_orchestrator.core.job import JOB_BRANCH, Branch, BranchState, child_id
from services.job_orchestrator.core.task_inputs import files_of, made_of
from services.job_orchestrator.core.workflow import ChildJob, Step, Timeouts, Wait

MAX_DEPTH = 10
"""Jobs nested in each other."""


def deadline(timeouts: Timeouts, entered_at: float | None, due: float | None) -> float | None:
    """The earlier of `due` and the end of the step's total time, which began at `entered_at`. Times in Unix seconds."""
    if timeouts.total_s is None or entered_at is None:
        return due
    return min(due or float("inf"), entered_at + timeouts.total_s)


def start_attempt(builder: DecisionBuilder, branch: Branch, step: Step, attempt: int, polls: int = 0) -> Branch:
    """Begin attempt number `attempt` (from 1) of `step`, which the branch is at.

    A task goes to the workers if there is a credit for it; otherwise the branch waits as `ready`. A wait step waits for its time or its
    answer, and a child job is created. Raises `ConditionFailed` where the step's time, files or depth cannot be had.
    """
    lease = derived(builder.job.id, branch.id, step.name, attempt, polls, "lease")
    begun = {
        "attempt": attempt, "polls": polls, "returned": branch.returned if polls else None, "waiting": False, "lease": lease,
        "worker": None, "started_at": None,
    }  # fmt: skip
    if step.action and builder.job.paused_by is None and builder.credits(step.action) + builder.freed.get(step.action, 0) > 0:
        builder.freed[step.action] = builder.freed.get(step.action, 0) - 1
        return hand_out(builder, branch, step, **begun)
    due_at = deadline(step.timeouts, branch.entered_at, None)
    branch = builder.change_branch(branch, state=BranchState.READY, due_at=due_at, since=builder.unix, **begun)
    if step.wait is not None:
        return _wait(builder, branch, step, step.wait)
    return _child(builder, branch, step, step.job) if step.job is not None else branch


def start_next_attempt(builder: DecisionBuilder, branch: Branch) -> Branch:
    """Begin the attempt that a branch in back-off waits for: the same one again where its worker asked for time, else the next."""
    step = builder.job.step_of(branch)
    if branch.waiting:
        return start_attempt(builder, branch, step, branch.attempt, branch.polls)
    return start_attempt(builder, branch, step, branch.attempt + 1)


def hand_out(builder: DecisionBuilder, branch: Branch, step: Step, **begun: Any) -> Branch:
    """Send the branch's task to the workers. `begun` holds the attempt's fields where the attempt begins with it."""
    due_at = deadline(step.timeouts, branch.entered_at, builder.unix + step.timeouts.queued_s)
    branch = builder.change_branch(branch, state=BranchState.QUEUED, due_at=due_at, since=None, **begun)
    builder.task(branch, step, files_of(builder.job, builder.branches) if step.files and branch.id == JOB_BRANCH else None)
    return branch


def _wait(builder: DecisionBuilder, branch: Branch, step: Step, wait: Wait) -> Branch:
    due = None if wait.timeout_s is None else builder.unix + wait.timeout_s
    if wait.kind == "time" and wait.for_s is not None:
        due = builder.unix + wait.for_s
    elif wait.kind == "time":
        due = moment(wait.until or "", facts(builder.job, branch))
    due_at = deadline(step.timeouts, branch.entered_at, due)
    return builder.change_branch(
        branch, state=BranchState.WAITING, due_at=due_at, since=None if wait.kind == "time" else builder.unix
    )


def _child(builder: DecisionBuilder, branch: Branch, step: Step, child: ChildJob) -> Branch:
    parent = builder.job.parent
    depth = parent.depth + 1 if parent else 1
    if depth > MAX_DEPTH:
        raise ConditionFailed(f"jobs are nested deeper than {MAX_DEPTH}")
    if child.outputs:
        files = made_of(builder.job, builder.branches, branch)
    else:
        given = [branch] if branch.id else builder.branches.values()
        files = tuple(b.file for b in given if b.file is not None and not b.ended)
    if len(files) > MAX_FILES:
        raise ConditionFailed(f"a job of its own takes at most {MAX_FILES} files, these are {len(files)}")
    builder.child_job(branch, step, child, files, depth)
    return builder.change_branch(branch, state=BranchState.RUNNING, worker=f"job {child_id(branch)}", since=None)


def revoke(builder: DecisionBuilder, branch: Branch, reason: str) -> None:
    """Cancel the branch's open attempt: its task at the workers, or its child job."""
    step = builder.job.step_of(branch)
    if step.job is not None:
        builder.child_cancelled(branch, reason)
    else:
        builder.task_cancelled(branch, step, reason)
