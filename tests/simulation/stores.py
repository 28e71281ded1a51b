"""Model stores in dictionaries, which a transaction copies and replaces on commit. `test_simulation.py` compares them with SQLite's."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from contracts import FileRef, Message, PublishWorkflow, ScheduleState
from contracts.sealing import Node, Tree
from services.job_orchestrator.core.allocation import Control
from services.job_orchestrator.core.decide import BranchDue
from services.job_orchestrator.core.job import Branch, Job, evolve
from services.job_orchestrator.core.workflow import Workflow
from services.job_orchestrator.ports import Key, Overview, Ready, Waiting
from services.session.core.session import Session
from shared.kafka.outgoing import Outgoing


@dataclass
class Row:
    """An outbox row, with its message already decoded."""

    number: int
    row: Outgoing
    message: Message | None


@dataclass
class Database:
    """The tables of one service, shared by its replicas."""

    tables: dict[str, dict[Any, Any]] = field(default_factory=dict)
    numbers: int = 0

    def begin(self) -> Transaction:
        """A copy to work on."""
        return Transaction(self, {name: dict(rows) for name, rows in self.tables.items()})


@dataclass
class Transaction:
    """What handlers get as their connection. Its changes are visible after `commit`."""

    database: Database
    tables: dict[str, dict[Any, Any]]

    def table(self, name: str) -> dict[Any, Any]:
        """Rows by key."""
        return self.tables.setdefault(name, {})

    def commit(self) -> None:
        """Make the changes visible."""
        self.database.tables = self.tables


class ModelJobStore:
    """`JobStore`."""

    def __init__(self, tx: Any, workflows: Mapping[tuple[str, int], Workflow]) -> None:
        self.tx: Transaction = tx
        self.workflows = workflows
        self.jobs = tx.table("job")
        self.branch = tx.table("lane")

    def load(self, wanted: Mapping[str, Collection[str]]) -> dict[str, Job]:
        found = {i: self.jobs[i][0] for i in wanted if i in self.jobs}
        branches = self.load_branches({i: wanted[i] for i in found})
        return {i: evolve(job, {"branches": branches.get(i, {})}) for i, job in found.items()}

    def load_headers(self, wanted: Collection[str]) -> dict[str, Job]:
        return self.load({job_id: () for job_id in wanted})

    def load_branches(self, wanted: Mapping[str, Collection[str]]) -> dict[str, dict[str, Branch]]:
        return {i: {k: self.branch[i, k] for k in keys if (i, k) in self.branch} for i, keys in wanted.items()}

    def with_all_branches(self, job: Job) -> Job:
        stored = {k: branch for (i, k), branch in sorted(self.branch.items(), key=lambda x: x[0]) if i == job.id}
        return replace(job, branches={**stored, **job.branches})

    def save(self, changes: Iterable[tuple[Job, Collection[str], str | None]]) -> None:
        for job, branches, trace in changes:
            self.jobs[job.id] = (evolve(job, {"branches": {}}), trace)
            for key in branches:
                self.branch[job.id, key] = job.branches[key]

    def due_timers(self, now: float, limit: int) -> Sequence[tuple[BranchDue, str | None]]:
        rows = sorted(
            (branch.due_at, i, k) for (i, k), branch in self.branch.items() if branch.due_at is not None and branch.due_at <= now
        )
        return [(BranchDue(i, k, self.branch[i, k].lease), None) for _, i, k in rows[:limit]]

    def clear_timers(self, void: Iterable[BranchDue], now: float) -> None:
        for v in void:
            branch = self.branch[v.job_id, v.branch_id]
            if branch.lease == v.lease and branch.due_at is not None and branch.due_at <= now:
                self.branch[v.job_id, v.branch_id] = evolve(branch, {"due_at": None})

    def has_changed(self) -> bool:
        return False

    def take_changed(self, limit: int) -> Sequence[str]:
        return []

    def workflow(self, name: str, version: int | None) -> Workflow | None:
        found = [w for (n, v), w in self.workflows.items() if n == name and version in (None, v)]
        return max(found, key=lambda w: w.version, default=None)

    def erase(self, job_id: str) -> None:
        self.jobs.pop(job_id, None)
        for key in [k for k in self.branch if k[0] == job_id]:
            del self.branch[key]

    def drop_branches(self, job_id: str, branch_ids: Collection[str]) -> None:
        for branch_id in branch_ids:
            self.branch.pop((job_id, branch_id), None)

    def save_part(self, job_id: str, part: int, files: Sequence[FileRef]) -> None:
        self.tx.table("part")[job_id, part] = tuple(files)

    def parts(self, job_id: str) -> tuple[FileRef, ...]:
        parts = self.tx.table("part")
        return tuple(f for key in sorted(k for k in parts if k[0] == job_id) for f in parts[key])

    def drop_parts(self, job_id: str) -> None:
        parts = self.tx.table("part")
        for key in [k for k in parts if k[0] == job_id]:
            del parts[key]


class ModelDispatchStore:
    """`DispatchStore`."""

    def __init__(self, tx: Any) -> None:
        self.tx: Transaction = tx
        self.ready = tx.table("ready")
        self.flight = tx.table("flight")

    def has_ready(self) -> bool:
        return bool(self.ready)

    def ready_actions(self) -> list[str]:
        return sorted({r["action"] for r in self.ready.values()})

    def ready_tenants(self, action: str) -> list[str]:
        return sorted({r["tenant_id"] for r in self.ready.values() if r["action"] == action})

    def ready_summary(self) -> list[Waiting]:
        found: dict[Key, list[float]] = {}
        for r in self.ready.values():
            found.setdefault((r["action"], r["tenant_id"]), []).append(r["since"])
        return [Waiting(a, t, len(s), min(s)) for (a, t), s in sorted(found.items())]

    def next_ready(self, action: str, tenant: str, limit: int) -> list[Ready]:
        rows = [r for r in self.ready.values() if (r["action"], r["tenant_id"]) == (action, tenant)]
        rows.sort(key=lambda r: (r["rank"], r["job_id"], r["lane_id"]))
        return [Ready(r["job_id"], r["lane_id"], r["lease"], None) for r in rows[:limit]]

    def count_ahead(self, action: str, tenant: str, rank: float) -> int:
        return sum(r["rank"] < rank for r in self.ready.values() if (r["action"], r["tenant_id"]) == (action, tenant))

    def change_ready(self, entering: Sequence[Mapping[str, Any]], leaving: Sequence[Mapping[str, Any]]) -> None:
        for r in leaving:
            self.ready.pop((r["job_id"], r["lane_id"]), None)
        for r in entering:
            self.ready[r["job_id"], r["lane_id"]] = dict(r)

    def in_flight(self, tenants: Iterable[str]) -> dict[Key, int]:
        wanted = set(tenants)
        return {k: n for k, n in self.flight.items() if k[0] == "action" or k[1] in wanted}

    def add_in_flight(self, deltas: Mapping[Key, int]) -> None:
        for key, n in deltas.items():
            self.flight[key] = self.flight.get(key, 0) + n

    def overview(self) -> Overview:
        controls: dict[Key, Control] = dict(self.tx.table("control"))
        tenants = {name for kind, name in controls if kind == "tenant"}
        return Overview(controls, self.in_flight(tenants), self.has_ready())

    def set_control(self, key: Key, control: Control) -> None:
        self.tx.table("control")[key] = replace(control, tokens=None, tokens_at=None)

    def set_tokens(self, key: Key, tokens: float, at: float) -> None:
        controls = self.tx.table("control")
        controls[key] = replace(controls[key], tokens=tokens, tokens_at=at)

    def shares(self, action: str) -> dict[str, float]:
        return {t: p for (a, t), p in self.tx.table("share").items() if a == action}

    def set_shares(self, action: str, passed: Mapping[str, float], gone: Iterable[str]) -> None:
        shares = self.tx.table("share")
        shares.update({(action, t): p for t, p in passed.items()})
        for tenant in gone:
            shares.pop((action, tenant), None)

    def worker_seen(self, worker: str, actions: Iterable[str], at: float, slots: int) -> None:
        self.tx.table("worker").update({(a, worker): at for a in actions})

    def last_seen(self) -> dict[str, float]:
        return {a: at for (a, _), at in self.tx.table("worker").items()}

    def may_allocate(self) -> bool:
        return True

    def recount_in_flight(self, count: Callable[[str, int, str, str], Iterable[Key]]) -> None:
        raise NotImplementedError


class ModelSteeringStore:
    """`SteeringStore`; the simulation publishes its workflows beforehand."""

    def __init__(self, tx: Any) -> None:
        self.rows = tx.table("schedule")

    def claim_workflow(self, name: str, tenant: str) -> bool:
        raise NotImplementedError

    def queue_workflow(self, command: PublishWorkflow) -> None:
        raise NotImplementedError

    def queued_workflows(self) -> Sequence[PublishWorkflow]:
        return []

    def unqueue_workflow(self, command_id: str) -> None:
        raise NotImplementedError

    def schedule(self, schedule_id: str) -> ScheduleState | None:
        found: ScheduleState | None = self.rows.get(schedule_id)
        return found

    def save_schedule(self, state: ScheduleState) -> None:
        self.rows[state.schedule_id] = state

    def due_schedules(self, now: float, limit: int) -> Sequence[ScheduleState]:
        return [s for s in self.rows.values() if s.next_at is not None and s.next_at.timestamp() <= now][:limit]


class ModelSealStore:
    """`SealStore` of a deployment that seals nothing."""

    def __init__(self, tx: Any) -> None:
        pass

    def lock(self) -> None:
        raise NotImplementedError

    def newest_at(self) -> float | None:
        return None

    def add(self, key_id: str, now: float) -> None:
        raise NotImplementedError

    def used_since(self, since: float) -> Mapping[str, float]:
        return {}

    def tree(self, key_id: str, part: int) -> dict[Node, bytes]:
        raise NotImplementedError

    def write(self, key_id: str, tree: Tree, parts: Collection[int]) -> Mapping[int, tuple[int, str]]:
        raise NotImplementedError

    def forget_old(self, before: float) -> Mapping[str, list[int]]:
        raise NotImplementedError


class ModelSessionStore:
    """`SessionStore`."""

    def __init__(self, tx: Any) -> None:
        self.sessions = tx.table("session")
        self.rows = tx.table("file")

    def session(self, session_id: str) -> Session | None:
        found: Session | None = self.sessions.get(session_id)
        return found

    def file(self, session_id: str, file_id: str) -> FileRef | None:
        found: FileRef | None = self.rows.get((session_id, file_id), (0, None))[1]
        return found

    def files(self, session_id: str) -> tuple[FileRef, ...]:
        return tuple(f for _, f in sorted((v for (s, _), v in self.rows.items() if s == session_id), key=lambda v: v[0]))

    def save(self, session: Session) -> None:
        self.sessions[session.id] = session

    def add_file(self, session_id: str, position: int, file: FileRef) -> None:
        self.rows[session_id, file.file_id] = (position, file)

    def erase_file(self, session_id: str, file_id: str) -> None:
        raise NotImplementedError("no history of the simulation erases a file")

    def erase(self, session_id: str) -> None:
        self.sessions.pop(session_id, None)
        for key in [key for key in self.rows if key[0] == session_id]:
            self.rows.pop(key)

    def due(self, now: float, limit: int) -> Sequence[str]:
        return [s.id for s in self.sessions.values() if s.state.value == "open" and s.expires_at.timestamp() <= now][:limit]
