"""Runs a job again: a new job with the files of one that has ended, and with the results that still hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from contracts import FileStatus, RerunJob
from contracts.parameters import check_arguments
from services.job_orchestrator.core.advance import advance, arrive
from services.job_orchestrator.core.decision_builder import Credits, DecisionBuilder
from services.job_orchestrator.core.file_acts import BY_PEOPLE
from services.job_orchestrator.core.job import JOB_BRANCH, Branch, BranchState, Decision, Job, evolve
from services.job_orchestrator.core.moves import Enter, Move, Release
from services.job_orchestrator.core.workflow import Step, Workflow


@dataclass(frozen=True, slots=True)
class Rerun:
    """A command to run `source`, the old job with all branches, in `workflow`. Each is None where there is none."""

    command: RerunJob
    source: Job | None
    workflow: Workflow | None


class _Refused(Exception):
    pass


def rerun(event: Rerun, now: datetime, credits: Credits) -> Decision:
    """The new job, or the reason for a refusal."""
    try:
        source, workflow = _checked(event)
        base, starts = _plan(event.command, source, workflow)
    except _Refused as error:
        return Decision(None, refused=str(error))
    command = event.command
    args = {**(source.request.args or {}), **(command.args or {})}
    closed = check_arguments(workflow.all_steps, args, command.owner.tenant_id)
    if closed is not None:
        return Decision(None, refused=f"invalid {closed.code}", why=str(closed))
    branches = {key: _branch(branch, starts[key], workflow) for key, branch in source.branches.items() if key in starts}
    own = source.branches.get(JOB_BRANCH)
    if own is not None:
        branches[JOB_BRANCH] = Branch(JOB_BRANCH, results=_before(own.results, base, workflow))
    changes: dict[str, Any] = {"workflow_version": workflow.version, "start_at": None}
    changes |= {"metadata": command.metadata} if command.metadata is not None else {}
    changes |= {"args": args} if command.args is not None else {}
    job = Job(
        command.new_job_id, command.owner, source.request.model_copy(update=changes), workflow, now, now, total=len(starts),
        session_id=source.session_id, branches=branches, rerun_of=source.id,
    )  # fmt: skip
    builder = DecisionBuilder(job, command.message_id, now, credits)
    builder.job_created(())
    builder.job_started()
    _begin(builder, base, starts)
    return builder.decision()


def _checked(event: Rerun) -> tuple[Job, Workflow]:
    source, command = event.source, event.command
    if source is None or source.owner.tenant_id != command.owner.tenant_id:
        raise _Refused("unknown job")
    if not source.ended:
        raise _Refused("job has not ended")
    if event.workflow is None:
        raise _Refused("unknown workflow")
    if command.from_step is not None and command.from_step not in [s.name for s in event.workflow.steps]:
        raise _Refused("unknown step")
    if set(command.file_ids) - {key for key, branch in source.branches.items() if branch.recycled_at is None}:
        raise _Refused("unknown file")
    return source, event.workflow


def _plan(command: RerunJob, source: Job, workflow: Workflow) -> tuple[int, dict[str, int | None]]:
    """The step that the job begins at, and for each file the step that it begins at: None where it stays as it is."""
    count = len(workflow.steps)
    wanted = None if command.from_step is None else [s.name for s in workflow.steps].index(command.from_step)
    changed = first_change(source.workflow, workflow, source.request.args, command.args)
    starts: dict[str, int | None] = {}
    for key, branch in source.branches.items():
        if key != JOB_BRANCH and branch.recycled_at is None:
            starts[key] = _start(command, branch, wanted, changed, source.workflow, workflow)
    own = source.branches.get(JOB_BRANCH)
    begins = [i for i in starts.values() if i is not None]
    if own is not None and own.state is not BranchState.DONE and not begins:
        begins.append(_same(own, source.workflow, workflow) if wanted is None else wanted)
    if command.only != "failed" and wanted is not None:
        begins.append(wanted)
    if not starts and not begins and command.only == "all":
        begins.append(0)
    if not begins or (workflow.needs_files and not starts):
        raise _Refused("nothing to run again")
    return min(*begins, count - 1), starts


def _start(
    command: RerunJob, branch: Branch, wanted: int | None, changed: int | None, old: Workflow, new: Workflow
) -> int | None:
    done = branch.state is BranchState.DONE
    if command.file_ids and branch.id not in command.file_ids:
        return None
    if command.only == "failed" and done:
        return None
    if command.only == "changed" and done:
        return changed
    if branch.status is FileStatus.PENDING:
        # It came from another job. Whatever it has of steps is not of this workflow.
        return 0
    if wanted is not None:
        return wanted
    if command.only == "all":
        return 0
    # A file that did not finish goes on where it stopped, or at the first step that has changed.
    return min(_same(branch, old, new), changed if changed is not None else len(new.steps))


def _same(branch: Branch, old: Workflow, new: Workflow) -> int:
    if branch.step >= len(old.steps):
        return 0
    names = [s.name for s in new.steps]
    name = old.steps[branch.step].name
    return names.index(name) if name in names else 0


def first_change(
    old: Workflow, new: Workflow, old_args: Mapping[str, Any] | None, new_args: Mapping[str, Any] | None
) -> int | None:
    """Index of the first step of `new` that differs from the step at its place in `old`; None where none does.

    Steps differ by what they do (`revision` counts) and by the arguments that the jobs give them.
    """
    args = {**(old_args or {}), **(new_args or {})}
    for index, step in enumerate(new.steps):
        before = old.steps[index] if index < len(old.steps) else None
        if before is None or _work(before) != _work(step) or (old_args or {}).get(step.name) != args.get(step.name):
            return index
    return None


def _work(step: Step) -> tuple[Any, ...]:
    return (step.name, step.action, step.revision, step.scope, step.config, step.when, step.wait, step.job)


def _before(results: Mapping[str, Mapping[str, Any]], index: int, workflow: Workflow) -> dict[str, Mapping[str, Any]]:
    earlier = {step.name for step in workflow.steps[:index]} | ({BY_PEOPLE} if index else set())
    return {name: result for name, result in results.items() if name in earlier}


def _branch(branch: Branch, start: int | None, workflow: Workflow) -> Branch:
    if start is None:
        return branch
    kept = _before(branch.results, start, workflow)
    tagged = {"tag": branch.tag, "score": branch.score} if kept else {}
    origin = {"session_id": branch.session_id, "former_jobs": branch.former_jobs}
    return evolve(Branch(branch.id, branch.file, step=start, results=kept), {**tagged, **origin})


def _begin(builder: DecisionBuilder, base: int, starts: Mapping[str, int | None]) -> None:
    """Bring every file to where it begins: into its step, or to the join that the job begins at."""
    workflow = builder.job.workflow
    boundary = workflow.run_end(base) if workflow.steps[base].scope == "file" else base
    entering: list[Move] = []
    for key, branch in list(builder.branches.items()):
        if key == JOB_BRANCH:
            continue
        start = starts[key]
        if start is None and branch.state is not BranchState.DONE:
            _drop(builder, branch)
        elif start is None or start >= boundary:
            arrive(builder, builder.change_branch(branch, state=BranchState.IDLE), boundary)
        else:
            entering.append(Enter(key, start))
    for move in entering or [Release(boundary)]:
        advance(builder, move)


def _drop(builder: DecisionBuilder, branch: Branch) -> None:
    """Leave out a file that did not finish and does not run again. It counts as it ended, and its event says so."""
    state = branch.state if branch.state in (BranchState.FAILED, BranchState.INVALID) else BranchState.CANCELLED
    branch = builder.change_branch(branch, state=state, due_at=None)
    builder.file_status(branch, FileStatus(state.value), role="dropped")
    builder.change_job(**{state.value: getattr(builder.job, state.value) + 1})
