"""What the orchestrator's shell needs from a store, inside one transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from contracts import FileRef, PublishWorkflow, ScheduleState
from services.job_orchestrator.core.allocation import Control
from services.job_orchestrator.core.decide import BranchDue
from services.job_orchestrator.core.job import Branch, Job
from services.job_orchestrator.core.workflow import Workflow

Key = tuple[str, str]
"""(`action` or `tenant`, name)."""


@dataclass(frozen=True, slots=True)
class Ready:
    """An attempt that waits for a credit, and the trace of its job."""

    job_id: str
    branch_id: str
    lease: str
    trace: str | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """An action that a tenant waits for: how many attempts, the oldest since when (Unix seconds)."""

    action: str
    tenant: str
    count: int
    since: float


@dataclass(frozen=True, slots=True)
class Overview:
    """What steers dispatch: all that is set, attempts in flight by action and by tenant (those for which something is set), and whether
    something waits for a credit."""

    controls: dict[Key, Control]
    in_flight: dict[Key, int]
    waits: bool


class JobStore(Protocol):
    """Jobs and branches within the running transaction."""

    def load(self, wanted: Mapping[str, Collection[str]]) -> dict[str, Job]:
        """Jobs by id, each with the named branches and its own (`""`), as far as they exist."""
        ...

    def look(self, wanted: Collection[str]) -> dict[str, Job]:
        """Jobs by id without branches, as they are and not held: to be told about, not to be decided."""
        ...

    def branches(self, wanted: Mapping[str, Collection[str]]) -> dict[str, dict[str, Branch]]:
        """Branches of jobs that are loaded, as far as they exist."""
        ...

    def with_all_branches(self, job: Job) -> Job:
        """The same job with every branch; branches already on it win over the stored ones."""
        ...

    def save(self, changes: Iterable[tuple[Job, Collection[str], str | None]]) -> None:
        """Write headers and the named branches; the third value is the trace that timers of the job descend from."""
        ...

    def due(self, now: float, limit: int) -> Sequence[tuple[BranchDue, str | None]]:
        """Timers that are due, earliest first, each with its job's trace."""
        ...

    def clear_due(self, void: Iterable[BranchDue], now: float) -> None:
        """Forget timers that the core refused, unless they were set anew to a time after `now` (Unix seconds)."""
        ...

    def has_changed(self) -> bool:
        """True when `take_changed` would hand out something."""
        ...

    def take_changed(self, limit: int) -> Sequence[str]:
        """Ids of jobs that were saved since they were last taken; each is handed out once."""
        ...

    def workflow(self, name: str, version: int | None) -> Workflow | None:
        """A published version, or the newest when `version` is None."""
        ...

    def erase(self, job_id: str) -> None:
        """Forget a job and its branches."""
        ...

    def keep_part(self, job_id: str, part: int, files: Sequence[FileRef]) -> None:
        """Keep some of the files of a job that is to come."""
        ...

    def parts(self, job_id: str) -> tuple[FileRef, ...]:
        """The files kept so far, in order."""
        ...

    def drop_parts(self, job_id: str) -> None:
        """Forget them: they are the job's now."""
        ...


class DispatchStore(Protocol):
    """What waits for credits, what is in flight, and what steers it, within the running transaction."""

    def anything_waits(self) -> bool:
        """True when something waits for a credit."""
        ...

    def actions(self) -> list[str]:
        """Actions that something waits for."""
        ...

    def tenants(self, action: str) -> list[str]:
        """Tenants that wait for an action."""
        ...

    def summary(self) -> list[Waiting]:
        """Everything that waits, by action and tenant."""
        ...

    def next(self, action: str, tenant: str, limit: int) -> list[Ready]:
        """The first of those that wait, without those whose jobs another replica is deciding."""
        ...

    def ahead(self, action: str, tenant: str, rank: float) -> int:
        """How many of the tenant's tasks go first (at most 10,000)."""
        ...

    def move(self, entering: Sequence[dict[str, Any]], leaving: Sequence[dict[str, Any]]) -> None:
        """Write who waits from now on, and who does no longer."""
        ...

    def in_flight(self, tenants: Iterable[str]) -> dict[Key, int]:
        """Attempts in flight by action, and by those tenants."""
        ...

    def add(self, deltas: Mapping[Key, int]) -> None:
        """Count attempts that were handed out (or came back, if negative)."""
        ...

    def overview(self) -> Overview:
        """All of what steers dispatch, at once."""
        ...

    def set_control(self, key: Key, control: Control) -> None:
        """Set it; its rate starts with all tokens."""
        ...

    def spend(self, key: Key, tokens: float, at: float) -> None:
        """What is left of a rate's tokens."""
        ...

    def shares(self, action: str) -> dict[str, float]:
        """How far the tenants are that waited at the last allocation."""
        ...

    def set_shares(self, action: str, passed: Mapping[str, float], gone: Iterable[str]) -> None:
        """Keep how far they are now; forget those that wait no longer."""
        ...

    def seen(self, worker: str, actions: Iterable[str], at: float, slots: int) -> None:
        """A worker is there (or was, with `at` in the past)."""
        ...

    def last_seen(self) -> dict[str, float]:
        """Action → when a worker that takes it was last seen (Unix seconds)."""
        ...

    def may_grant(self) -> bool:
        """False when another replica is allocating just now: what it leaves is allocated when it is done."""
        ...

    def recount(self, count: Callable[[str, int, str, str], Iterable[Key]]) -> None:
        """Count what is in flight anew from the branches. `count(workflow, version, branch, job)` (texts) names what one counts for."""
        ...


class SteeringStore(Protocol):
    """Workflows that wait to be published, and schedules, within the running transaction."""

    def want(self, command: PublishWorkflow) -> None:
        """Keep a workflow until its topics are made."""
        ...

    def wanted(self) -> Sequence[PublishWorkflow]:
        """Some of those kept."""
        ...

    def got(self, command_id: str) -> None:
        """It is published, or never will be."""
        ...

    def schedule(self, schedule_id: str) -> ScheduleState | None:
        """A schedule, also a deleted one."""
        ...

    def keep(self, state: ScheduleState) -> None:
        """Write a schedule; its `next_at` is its timer."""
        ...

    def due_schedules(self, now: float, limit: int) -> Sequence[ScheduleState]:
        """Schedules that are due (`now` in Unix seconds), without those that another replica fires."""
        ...
