"""Why a job does not move: one reason with its facts, and when that will change if it is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from contracts import JobStage
from contracts.presence import WORKER_ALIVE_S
from services.job_orchestrator.core.allocation import Capacity
from services.job_orchestrator.core.job import JOB_BRANCH, Branch, BranchState, Job

ORDER = (
    "running", "child_job", "not_sent", "no_worker", "queued", "action_paused", "tenant_paused", "tenant_limit", "action_limit", "rate", "behind",
    "retry_due", "waiting_for_approval", "waiting_for_poke", "waiting_until", "waiting_for_files",
)  # fmt: skip
"""Reason codes. The job's reason is the first one that any of its branches has: it is likely to move the job next."""


MOST_LISTED = 100
"""Approvals that one explanation lists."""


@dataclass(frozen=True, slots=True)
class Reason:
    """`at`: when it changes (Unix seconds), if that is known."""

    code: str
    message: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    at: float | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What the reasons depend on beside the job. `last_seen`: Unix seconds by action; `ahead(action)`: the tenant's tasks that go first."""

    now: float
    last_seen: Mapping[str, float]
    action: Callable[[str], Capacity]
    tenant: Capacity
    ahead: Callable[[str], int]
    unsent: Callable[[str], str | None] = lambda action: None
    """Why Kafka does not take tasks of an action; None while it does."""


def explain(job: Job, facts: Facts) -> Reason:
    """The reason why `job`, with all of its branches, does not move."""
    if job.ended:
        errors = f": {job.errors[-1]}" if job.errors else ""
        return Reason("ended", f"the job is {job.stage.value}{errors}", {"stage": job.stage.value})
    if job.stage is JobStage.QUEUED:
        at = job.request.start_at.timestamp() if job.request.start_at else None
        return Reason("start_at", f"it was asked to begin at {_clock(at)}", {}, at)
    if job.paused_by is not None:
        why = {"by": job.paused_by, "reason": job.paused_reason, "since": job.paused_at}
        return Reason("job_paused", f"paused by {job.paused_by}{_because(job.paused_reason)}", why)
    found = (_of_branch(job, branch, facts) for branch in job.branches.values() if not branch.ended)
    reasons = [r for r in found if r is not None]
    if not reasons:
        return Reason("between", "nothing of it is open; its next step is being decided")
    counts = Counter(r.code for r in reasons)
    first = min(reasons, key=lambda r: (ORDER.index(r.code), r.at or 0.0))
    more = {} if len(counts) == 1 and counts[first.code] == 1 else {"tasks": dict(counts)}
    return Reason(first.code, first.message, {**first.facts, **more}, first.at)


def approvals(job: Job) -> list[dict[str, Any]]:
    """The steps of the job that wait for an approval: step, file, since when and until when (ISO 8601, or None); at most `MOST_LISTED`."""
    at = [b for b in job.branches.values() if b.state is BranchState.WAITING]
    asked = [(b, step) for b in at if (step := job.step_of(b)).wait is not None and step.wait.kind == "approval"]
    return [
        {
            "step": step.name,
            "file_id": b.id or None,
            "since": b.since and _clock(b.since),
            "due_at": b.due_at and _clock(b.due_at),
        }
        for b, step in asked[:MOST_LISTED]
    ]


def _of_branch(job: Job, branch: Branch, facts: Facts) -> Reason | None:
    if branch.state is BranchState.IDLE or (branch.id == JOB_BRANCH and branch.state is BranchState.ARRIVED):
        return None
    step = job.step_of(branch)
    known: dict[str, Any] = {"step": step.name, "attempt": branch.attempt}
    known |= {"file_id": branch.id} if branch.id else {}
    known |= {"action": step.action} if step.action else {}
    if branch.state is BranchState.ARRIVED:
        return Reason("waiting_for_files", f"{job.live - job.arrived} files have not come as far as {step.name}", known)
    if branch.state is BranchState.RUNNING:
        if step.job is not None:
            return Reason("child_job", f"{step.name} is {branch.worker}, which has not ended", {**known, "job": branch.worker})
        return Reason("running", f"{step.name} is running on {branch.worker or 'a worker'}", {**known, "worker": branch.worker})
    if branch.state is BranchState.QUEUED:
        return _queued(step.action, known, branch, facts)
    if branch.state is BranchState.BACKOFF:
        message = f"{step.name} failed in attempt {branch.attempt}; the next is due at {_clock(branch.due_at)}"
        if branch.waiting:
            message = f"{step.name} asked for time until {_clock(branch.due_at)}"
        return Reason("retry_due", message, known, branch.due_at)
    if branch.state is BranchState.WAITING:
        kind = step.wait.kind if step.wait else "time"
        if kind == "time":
            return Reason("waiting_until", f"{step.name} waits until {_clock(branch.due_at)}", known, branch.due_at)
        return Reason(
            f"waiting_for_{kind}",
            f"{step.name} waits for {'a poke' if kind == 'poke' else 'an approval'}{_since(branch.since)}",
            known,
            branch.due_at,
        )
    return _ready(step.action, known, facts)


def _queued(action: str, known: dict[str, Any], branch: Branch, facts: Facts) -> Reason:
    unsent = facts.unsent(action)
    if unsent is not None:
        return Reason("not_sent", f"the task for {action} is held back: {unsent}", known, branch.due_at)
    seen = facts.last_seen.get(action)
    if seen is None or facts.now - seen > WORKER_ALIVE_S:
        since = "ever" if seen is None else f"since {_clock(seen)}"
        return Reason("no_worker", f"no live worker for {action} {since}", {**known, "since": seen}, branch.due_at)
    return Reason("queued", f"handed out to the workers for {action}; none has reported on it yet", known, branch.due_at)


def _ready(action: str, known: dict[str, Any], facts: Facts) -> Reason:
    for kind, room in (("action", facts.action(action)), ("tenant", facts.tenant)):
        what = f"{action}" if kind == "action" else "the tenant"
        why = {**known, **(room.facts or {})}
        if room.gate == "paused":
            return Reason(f"{kind}_paused", f"{what} is paused by {why['by']}{_because(why['reason'])}", why)
        if room.gate == "limit":
            return Reason(f"{kind}_limit", f"{what} is at its limit: {why['in_flight']} of {why['limit']}", why)
        if room.gate == "rate":
            message = f"{what} may have {why['rate_per_s']:g} tasks per second; the next at {_clock(room.at)}"
            return Reason("rate", message, {**why, "of": kind}, room.at)
    ahead = facts.ahead(action)
    return Reason("behind", f"behind {ahead} older tasks for {action}", {**known, "ahead": ahead})


def _since(at: float | None) -> str:
    return "" if at is None else f" since {_clock(at)}"


def _because(reason: Any) -> str:
    return f": {reason}" if reason else ""


def _clock(at: float | None) -> str:
    return "an unknown time" if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
