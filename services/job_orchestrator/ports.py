"""What the orchestrator needs from its stores. Every method works inside the running transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Connection

from contracts import FileRef, FindReferences, PublishWorkflow, ScheduleState
from contracts.sealing import Node, Tree
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
    """How many attempts of a tenant wait for an action, and since when the oldest does (Unix seconds)."""

    action: str
    tenant: str
    count: int
    since: float


@dataclass(frozen=True, slots=True)
class Overview:
    """What dispatch depends on: all controls, attempts in flight, and whether anything waits for a credit.

    `in_flight` holds every action, and the tenants that have a control.
    """

    controls: dict[Key, Control]
    in_flight: dict[Key, int]
    waits: bool


class JobStore(Protocol):
    """Jobs and their branches."""

    def load(self, wanted: Mapping[str, Collection[str]]) -> dict[str, Job]:
        """Jobs by id, locked until the transaction ends. `wanted`: ids of the branches to load with each job. What is missing is left out."""
        ...

    def load_headers(self, wanted: Collection[str]) -> dict[str, Job]:
        """Jobs by id, without branches and without a lock: to publish, not to decide on."""
        ...

    def load_branches(self, wanted: Mapping[str, Collection[str]]) -> dict[str, dict[str, Branch]]:
        """Branches by id of jobs that are loaded. What is missing is left out."""
        ...

    def with_all_branches(self, job: Job) -> Job:
        """`job` with every branch. Branches that it already holds win over the stored ones."""
        ...

    def save(self, changes: Iterable[tuple[Job, Collection[str], str | None]]) -> None:
        """Write each job's header, the named branches, and the trace that the job's timers continue."""
        ...

    def due_timers(self, now: float, limit: int) -> Sequence[tuple[BranchDue, str | None]]:
        """Up to `limit` timers that are due at `now` (Unix seconds), earliest first, each with its job's trace."""
        ...

    def clear_timers(self, void: Iterable[BranchDue], now: float) -> None:
        """Delete timers that `decide` refused, unless they were set again to a time after `now` (Unix seconds)."""
        ...

    def has_changed(self) -> bool:
        """True when `take_changed` would return anything."""
        ...

    def take_changed(self, limit: int) -> Sequence[str]:
        """Ids of up to `limit` jobs that were saved since they were last taken. Each is taken once."""
        ...

    def workflow(self, name: str, version: int | None) -> Workflow | None:
        """A published workflow version; the newest where `version` is None."""
        ...

    def erase(self, job_id: str) -> None:
        """Delete a job and its branches."""
        ...

    def drop_branches(self, job_id: str, branch_ids: Collection[str]) -> None:
        """Delete branches of files that have left the job."""
        ...

    def save_part(self, job_id: str, part: int, files: Sequence[FileRef]) -> None:
        """Keep part number `part` of the files of a job that does not exist yet."""
        ...

    def parts(self, job_id: str) -> tuple[FileRef, ...]:
        """The files kept so far, in order."""
        ...

    def drop_parts(self, job_id: str) -> None:
        """Delete the kept files."""
        ...


class DispatchStore(Protocol):
    """Attempts that wait for credits, attempts in flight, and the controls."""

    def has_ready(self) -> bool:
        """True when an attempt waits for a credit."""
        ...

    def ready_actions(self) -> list[str]:
        """Actions that attempts wait for."""
        ...

    def ready_tenants(self, action: str) -> list[str]:
        """Tenants whose attempts wait for `action`."""
        ...

    def ready_summary(self) -> list[Waiting]:
        """Everything that waits, by action and tenant."""
        ...

    def next_ready(self, action: str, tenant: str, limit: int) -> list[Ready]:
        """The first `limit` attempts that wait, without those whose jobs another replica holds."""
        ...

    def count_ahead(self, action: str, tenant: str, rank: float) -> int:
        """How many waiting attempts of the tenant have a smaller rank (at most 10,000)."""
        ...

    def change_ready(self, entering: Sequence[dict[str, Any]], leaving: Sequence[dict[str, Any]]) -> None:
        """Write attempts that begin to wait, as rows, and delete those that no longer do."""
        ...

    def in_flight(self, tenants: Iterable[str]) -> dict[Key, int]:
        """Attempts in flight by action, and by each of `tenants`."""
        ...

    def add_in_flight(self, deltas: Mapping[Key, int]) -> None:
        """Add to the counters of attempts in flight. A delta is negative where attempts ended."""
        ...

    def overview(self) -> Overview:
        """All that dispatch depends on, in one query."""
        ...

    def set_control(self, key: Key, control: Control) -> None:
        """Write a control. Its rate begins with all tokens."""
        ...

    def set_tokens(self, key: Key, tokens: float, at: float) -> None:
        """Write how many tokens of a rate are left at `at` (Unix seconds)."""
        ...

    def shares(self, action: str) -> dict[str, float]:
        """Tenant → how far it is in the fair order, for those that waited at the last allocation."""
        ...

    def set_shares(self, action: str, passed: Mapping[str, float], gone: Iterable[str]) -> None:
        """Write how far tenants are, and delete those that no longer wait."""
        ...

    def worker_seen(self, worker: str, actions: Iterable[str], at: float, slots: int) -> None:
        """Write that a worker takes `actions`, and was alive at `at` (Unix seconds)."""
        ...

    def last_seen(self) -> dict[str, float]:
        """Action → when a worker that takes it was last alive (Unix seconds)."""
        ...

    def may_allocate(self) -> bool:
        """Locks allocation for this transaction. False where another replica holds the lock."""
        ...

    def recount_in_flight(self, count: Callable[[str, int, str, str], Iterable[Key]]) -> None:
        """Replace the counters by a count of the stored branches.

        `count(workflow, version, branch, job)`, called with the stored texts, names the keys that one branch counts for.
        """
        ...


class SteeringStore(Protocol):
    """Workflows that wait to be published, and schedules."""

    def claim_workflow(self, name: str, tenant: str) -> bool:
        """True when the tenant may publish under this name: nobody did before, or it did."""
        ...

    def queue_workflow(self, command: PublishWorkflow) -> None:
        """Keep a workflow until its topics exist."""
        ...

    def queued_workflows(self) -> Sequence[PublishWorkflow]:
        """Some of the workflows that wait."""
        ...

    def unqueue_workflow(self, command_id: str) -> None:
        """Delete a workflow that was published or refused."""
        ...

    def live_versions(self, name: str) -> Sequence[int]:
        """Versions of a workflow that are not deleted, in order."""
        ...

    def mark_deleted(self, name: str, versions: Sequence[int]) -> None:
        """No job begins with these versions any more. Their texts stay for jobs that run them."""
        ...

    def user_of(self, name: str) -> str | None:
        """A schedule or workflow that starts jobs of the workflow `name`, in words; None if there is none."""
        ...

    def ask_references(self, command: FindReferences) -> None:
        """Keep a question until it is answered."""
        ...

    def reference_question(self) -> FindReferences | None:
        """A question that waits."""
        ...

    def answered(self, command_id: str) -> None:
        """Delete a question."""
        ...

    def schedule(self, schedule_id: str) -> ScheduleState | None:
        """A schedule, also a deleted one."""
        ...

    def save_schedule(self, state: ScheduleState) -> None:
        """Write a schedule. Its `next_at` is its timer."""
        ...

    def due_schedules(self, now: float, limit: int) -> Sequence[ScheduleState]:
        """Up to `limit` schedules that are due at `now` (Unix seconds), without those that another replica holds."""
        ...


class SealStore(Protocol):
    """Seal keys."""

    def lock(self) -> None:
        """Until the transaction ends, no other replica changes a seal key."""
        ...

    def newest_at(self) -> float | None:
        """When the newest key was made (Unix seconds); None: there is none."""
        ...

    def add(self, key_id: str, now: float) -> None:
        """Add a key; the one before it is no longer used to seal."""
        ...

    def used_since(self, since: float) -> Mapping[str, float]:
        """Keys in use at `since` or later, each with the time when it was made."""
        ...

    def tree(self, key_id: str, part: int) -> dict[Node, bytes]:
        """The nodes of a key above the parts and in one part."""
        ...

    def write(self, key_id: str, tree: Tree, parts: Collection[int]) -> Mapping[int, tuple[int, str]]:
        """Replace parts of a key by those of `tree`; returns the version and the packed nodes of each, in the order of `parts`."""
        ...

    def forget_old(self, before: float) -> Mapping[str, list[int]]:
        """Delete keys that were last used before a time; returns their parts."""
        ...


@dataclass
class Stores:
    """Opens each store on a connection."""

    jobs: Callable[[Connection], JobStore]
    dispatch: Callable[[Connection], DispatchStore]
    steering: Callable[[Connection], SteeringStore]
    seals: Callable[[Connection], SealStore]
