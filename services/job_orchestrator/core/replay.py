"""Replays a job's recorded history with another version of its workflow, or of this code: where would the job be now?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from contracts import CreateJob, SessionClosed, StageReport
from services.job_orchestrator.core.decide import BranchDue, Start, decide
from services.job_orchestrator.core.job import JOB_BRANCH, Branch, BranchState, Job, NeedsAllBranches
from services.job_orchestrator.core.workflow import Workflow

Recorded = tuple[float, Any]
"""Unix time of the record, and the message: the request for the job, reports, commands."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """The job at the end of its history, and the reports that were refused: (file, step, reason)."""

    job: Job | None
    refused: tuple[tuple[str, str, str], ...]


def replay(history: Iterable[Recorded], workflow: Workflow) -> Replayed:
    """Decide every record again, in order. Timers that must have been due in between are fired.

    Raises `ValueError` for an incomplete history.
    """
    job: Job | None = None
    refused: list[tuple[str, str, str]] = []
    for at, message in history:
        now = datetime.fromtimestamp(at, UTC)
        if isinstance(message, (CreateJob, SessionClosed)):
            job = job or decide(None, Start(message, workflow), now).job
            continue
        if job is None:
            continue
        if isinstance(message, StageReport):
            job = _catch_up(job, message, at)
        decision = _decide(job, message, now)
        if decision.refused is None and decision.job is not None:
            job = decision.job
        elif isinstance(message, StageReport):
            refused.append((message.file_id or "", message.step, decision.refused or ""))
    return Replayed(job, tuple(refused))


def _decide(job: Job, event: Any, now: datetime) -> Any:
    try:
        return decide(job, event, now)
    except NeedsAllBranches:
        # Every branch is loaded here, so the history lacks a file.
        raise ValueError("the history is not complete") from None


def _catch_up(job: Job, report: StageReport, at: float) -> Job:
    """Fire the branch's timers until its attempt is that of the report."""
    for _ in range(200):
        branch = job.branches.get(report.file_id or JOB_BRANCH)
        if branch is None or job.ended or branch.lease == report.lease or branch.due_at is None or branch.due_at > at:
            return job
        decision = _decide(job, BranchDue(job.id, branch.id, branch.lease), datetime.fromtimestamp(branch.due_at + 1e-3, UTC))
        if decision.refused is not None or decision.job is None:
            return job
        job = decision.job
    return job


def differences(expected: Job, found: Replayed) -> list[str]:
    """Differences between the stored job and the replayed one, as sentences for people; empty where there are none."""
    if found.job is None:
        return ["it would not exist: nothing in the history makes it"]
    job = found.job
    said = []
    if expected.stage != job.stage:
        said.append(f"its stage would be {job.stage.value}, not {expected.stage.value}")
    for key in sorted(expected.branches.keys() | job.branches.keys()):
        was, is_ = _place(expected, expected.branches.get(key)), _place(job, job.branches.get(key))
        if was != is_:
            said.append(f"{f'file {key}' if key else 'the job'} would be {is_}, not {was}")
    return said


def _place(job: Job, branch: Branch | None) -> str:
    """Where a branch is, as far as a history tells: without the attempt's number, and without signs of life."""
    if branch is None or branch.state is BranchState.IDLE:
        return "nowhere"
    if branch.ended or branch.state is BranchState.ARRIVED:
        return branch.state.value
    return f"at {job.step_of(branch).name}"
