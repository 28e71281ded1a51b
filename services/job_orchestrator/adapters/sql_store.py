"""The job store in SQL: a header row per job, a row per branch, and timers as an indexed column. Statements are written out for speed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Index, text
from sqlmodel import Field, SQLModel

from contracts import FileRef
from services.job_orchestrator.adapters.catalog import MODELS as CATALOG_MODELS
from services.job_orchestrator.adapters.catalog import Catalog
from services.job_orchestrator.adapters.codec import branch_from_text, branch_to_text, job_to_text
from services.job_orchestrator.adapters.dispatch_store import MODELS as DISPATCH_MODELS
from services.job_orchestrator.adapters.seal_store import MODELS as SEAL_MODELS
from services.job_orchestrator.adapters.steering_store import MODELS as STEERING_MODELS
from services.job_orchestrator.core.decide import BranchDue
from services.job_orchestrator.core.job import Branch, Job
from services.job_orchestrator.core.workflow import Workflow
from shared.database.bulk_statements import Rows, arrays, run_for_each
from shared.database.columns import only_where
from shared.database.statements import Statement, as_list, is_shared


class JobRow(SQLModel, table=True):
    """Header of a job."""

    __tablename__ = "job"
    id: str = Field(primary_key=True)
    workflow_name: str
    workflow_version: int
    body: str
    trace: str | None = None
    __table_args__ = {"sqlite_with_rowid": False}


class LaneRow(SQLModel, table=True):
    """One file of a job, or the job's own branch. `due_at` in Unix seconds is its timer."""

    __tablename__ = "lane"
    job_id: str = Field(primary_key=True)
    lane_id: str = Field(primary_key=True)
    lease: str
    due_at: float | None = None
    body: str
    __table_args__ = (
        Index("lane_due", "due_at", **only_where("due_at IS NOT NULL")),
        {"sqlite_with_rowid": False},
    )


class PartRow(SQLModel, table=True):
    """Some of the files of a job that is to come (a session with more of them than one record takes)."""

    __tablename__ = "session_part"
    job_id: str = Field(primary_key=True)
    part: int = Field(primary_key=True)
    body: str


class ChangedRow(SQLModel, table=True):
    """A job whose state has yet to be published."""

    __tablename__ = "job_changed"
    job_id: str = Field(primary_key=True)
    __table_args__ = {"sqlite_with_rowid": False}


MODELS: tuple[type[SQLModel], ...] = (
    JobRow,
    LaneRow,
    ChangedRow,
    PartRow,
    *CATALOG_MODELS,
    *DISPATCH_MODELS,
    *STEERING_MODELS,
    *SEAL_MODELS,
)

_LOOK_AT_JOBS = Statement("SELECT id, workflow_name, workflow_version, body FROM job WHERE id IN (SELECT value FROM [ids])")
# Locked in the order of ids, before the branches are read: after waiting here, a replica reads what the other one wrote.
_LOAD_JOBS = Statement(
    "SELECT id, workflow_name, workflow_version, body FROM job WHERE id IN (SELECT value FROM [ids]) /*ORDER BY id FOR UPDATE*/"
)
_LOAD_LANES = Statement(
    "SELECT l.job_id, l.lane_id, l.body FROM [[pairs]] JOIN lane l ON l.job_id = value ->> 0 AND l.lane_id = value ->> 1"
)
_LOAD_ALL_LANES = text("SELECT lane_id, body FROM lane WHERE job_id = :job_id")
# Not an upsert: where another replica has made the job meanwhile, the batch fails and is decided again.
_NEW_JOB = "INSERT INTO job (id, workflow_name, workflow_version, body, trace) VALUES (:id, :name, :version, :body, :trace)"
_SAVE_JOB = "UPDATE job SET body = :body WHERE id = :id"
_ANEW = "ON CONFLICT (job_id, lane_id) DO UPDATE SET lease = excluded.lease, due_at = excluded.due_at, body = excluded.body"
_SAVE_LANE = f"INSERT INTO lane (job_id, lane_id, lease, due_at, body) VALUES (:job_id, :lane_id, :lease, :due_at, :body) {_ANEW}"
_CHANGED = "INSERT INTO job_changed (job_id) VALUES (:id) ON CONFLICT DO NOTHING"
# PostgreSQL locks a mark that is there, although nothing is written. Until this transaction commits, another replica skips the job
# (`SKIP LOCKED` in `_CHANGED_FIRST`); it would take the mark and publish the state of before.
_MARK_AND_LOCK = "ON CONFLICT (job_id) DO UPDATE SET job_id = excluded.job_id WHERE false"
# The four in one, over arrays; `job_changed` in ascending order, as every transaction locks its rows.
_SAVE_ALL = text(
    "WITH new AS (INSERT INTO job (id, workflow_name, workflow_version, body, trace) SELECT * FROM unnest(CAST(:new_id AS text[]), "
    "CAST(:new_name AS text[]), CAST(:new_version AS integer[]), CAST(:new_body AS text[]), CAST(:new_trace AS text[]))), "
    "stored AS (UPDATE job SET body = given.body FROM unnest(CAST(:stored_id AS text[]), CAST(:stored_body AS text[])) "
    "AS given(id, body) WHERE job.id = given.id), "
    "lanes AS (INSERT INTO lane (job_id, lane_id, lease, due_at, body) SELECT * FROM unnest(CAST(:lane_job_id AS text[]), "
    "CAST(:lane_lane_id AS text[]), CAST(:lane_lease AS text[]), CAST(:lane_due_at AS double precision[]), CAST(:lane_body AS text[])) "
    f"{_ANEW}), "
    f"changed AS (INSERT INTO job_changed (job_id) SELECT * FROM unnest(CAST(:changed_id AS text[])) ORDER BY 1 {_MARK_AND_LOCK}) "
    "SELECT 1"
)
_DUE = Statement(
    "SELECT l.job_id, l.lane_id, l.lease, j.trace FROM lane l JOIN job j ON j.id = l.job_id "
    "WHERE l.due_at <= :now ORDER BY l.due_at LIMIT :limit /*FOR UPDATE OF j SKIP LOCKED*/"
)
_HAS_CHANGED = text("SELECT 1 FROM job_changed LIMIT 1")
# Two statements: in one, PostgreSQL may run the inner query again for every row, because it takes this table for a small one.
_CHANGED_FIRST = Statement("SELECT job_id FROM job_changed ORDER BY job_id LIMIT :limit /*FOR UPDATE SKIP LOCKED*/")
_TAKE_CHANGED = Statement("DELETE FROM job_changed WHERE job_id IN (SELECT value FROM [ids])")
_CLEAR = text("UPDATE lane SET due_at = NULL WHERE job_id = :job_id AND lane_id = :lane_id AND lease = :lease AND due_at <= :now")
_KEEP_PART = text("INSERT INTO session_part (job_id, part, body) VALUES (:job_id, :part, :body) ON CONFLICT DO NOTHING")
_PARTS = text("SELECT body FROM session_part WHERE job_id = :job_id ORDER BY part")
_DROP_PARTS = text("DELETE FROM session_part WHERE job_id = :job_id")
_ERASE = [text(f"DELETE FROM {table} WHERE job_id = :job_id") for table in ("lane", "ready", "job_changed", "session_part")]
_ERASE.append(text("DELETE FROM job WHERE id = :job_id"))
_DROP_LANE = text("DELETE FROM lane WHERE job_id = :job_id AND lane_id = :lane_id")
_NEXT_DUE = text("SELECT min(due_at) FROM lane WHERE due_at IS NOT NULL")


class SqlJobStore:
    """`JobStore` on one connection."""

    def __init__(self, connection: Connection, catalog: Catalog) -> None:
        self.connection = connection
        self.catalog = catalog
        self.stored: set[str] = set()
        """Ids of jobs that have a row: these are updated, others inserted."""

    def load(self, wanted: Mapping[str, Collection[str]]) -> dict[str, Job]:
        if not wanted:
            return {}
        rows = _LOAD_JOBS.rows(self.connection, {"ids": as_list(wanted)})
        branches = self.load_branches(wanted)
        self.stored.update(row[0] for row in rows)
        return self._jobs(rows, branches)

    def load_headers(self, wanted: Collection[str]) -> dict[str, Job]:
        return self._jobs(_LOOK_AT_JOBS.rows(self.connection, {"ids": as_list(wanted)}), {})

    def _jobs(self, rows: Sequence[Any], branches: Mapping[str, dict[str, Branch]]) -> dict[str, Job]:
        if any((name, version) not in self.catalog.versions for _, name, version, _ in rows):
            self.catalog.load(self.connection)  # published by a newer replica
        return {
            job_id: self.catalog.recent.job(job_id, body, self.catalog.pinned(name, version), branches.get(job_id, {}))
            for job_id, name, version, body in rows
        }

    def load_branches(self, wanted: Mapping[str, Collection[str]]) -> dict[str, dict[str, Branch]]:
        pairs = as_list((job_id, branch) for job_id, branches in wanted.items() for branch in branches)
        branches: dict[str, dict[str, Branch]] = {}
        for job_id, branch_id, body in _LOAD_LANES.rows(self.connection, {"pairs": pairs}):
            branches.setdefault(job_id, {})[branch_id] = self.catalog.recent.branch(job_id, branch_id, body)
        return branches

    def with_all_branches(self, job: Job) -> Job:
        rows = self.connection.execute(_LOAD_ALL_LANES, {"job_id": job.id})
        return replace(job, branches={**{i: branch_from_text(i, body) for i, body in rows}, **job.branches})

    def save(self, changes: Iterable[tuple[Job, Collection[str], str | None]]) -> None:
        jobs: list[dict[str, Any]] = []
        branches: list[dict[str, Any]] = []
        recent = self.catalog.recent
        for job, changed, trace in changes:
            for branch_id in changed:
                branch = job.branches[branch_id]
                body = branch_to_text(branch)
                recent.keep_branch(job.id, branch, body)
                branches.append(
                    {"job_id": job.id, "lane_id": branch_id, "lease": branch.lease, "due_at": branch.due_at, "body": body}
                )
            body = job_to_text(job)
            recent.keep_job(job, body)
            name, version = job.workflow.name, job.workflow.version
            jobs.append({"id": job.id, "name": name, "version": version, "body": body, "trace": trace})
        if jobs:
            self._write(jobs, branches)
        self.stored.update(j["id"] for j in jobs)

    def _write(self, jobs: Rows, branches: Rows) -> None:
        new, stored = [j for j in jobs if j["id"] not in self.stored], [j for j in jobs if j["id"] in self.stored]
        if is_shared(self.connection):
            values = arrays(new, ("id", "name", "version", "body", "trace"), "new_") | arrays(stored, ("id", "body"), "stored_")
            values |= arrays(branches, ("job_id", "lane_id", "lease", "due_at", "body"), "lane_") | arrays(
                jobs, ("id",), "changed_"
            )
            self.connection.execute(_SAVE_ALL, values)
            return
        for statement, rows in ((_NEW_JOB, new), (_SAVE_JOB, stored), (_SAVE_LANE, branches), (_CHANGED, jobs)):
            run_for_each(self.connection, statement, rows)

    def has_changed(self) -> bool:
        return self.connection.execute(_HAS_CHANGED).scalar() is not None

    def take_changed(self, limit: int) -> Sequence[str]:
        found: Sequence[str] = _CHANGED_FIRST.run(self.connection, {"limit": limit}).scalars().all()
        if found:
            _TAKE_CHANGED.run(self.connection, {"ids": as_list(found)})
        return found

    def due_timers(self, now: float, limit: int) -> Sequence[tuple[BranchDue, str | None]]:
        rows = _DUE.run(self.connection, {"now": now, "limit": limit})
        return [(BranchDue(job_id, branch_id, lease), trace) for job_id, branch_id, lease, trace in rows]

    def clear_timers(self, void: Iterable[BranchDue], now: float) -> None:
        rows = [{"job_id": v.job_id, "lane_id": v.branch_id, "lease": v.lease, "now": now} for v in void]
        if rows:
            self.connection.execute(_CLEAR, rows)

    def erase(self, job_id: str) -> None:
        for statement in _ERASE:
            self.connection.execute(statement, {"job_id": job_id})

    def drop_branches(self, job_id: str, branch_ids: Collection[str]) -> None:
        for branch_id in sorted(branch_ids):
            self.connection.execute(_DROP_LANE, {"job_id": job_id, "lane_id": branch_id})

    def save_part(self, job_id: str, part: int, files: Sequence[FileRef]) -> None:
        body = "\n".join(f.to_json().decode() for f in files)
        self.connection.execute(_KEEP_PART, {"job_id": job_id, "part": part, "body": body})

    def drop_parts(self, job_id: str) -> None:
        self.connection.execute(_DROP_PARTS, {"job_id": job_id})

    def parts(self, job_id: str) -> tuple[FileRef, ...]:
        rows = self.connection.execute(_PARTS, {"job_id": job_id}).scalars().all()
        return tuple(FileRef.read(line) for body in rows for line in body.split("\n"))

    def workflow(self, name: str, version: int | None) -> Workflow | None:
        self.catalog.note_deleted(self.connection)
        if version is None:
            return self.catalog.newest(name)
        return None if (name, version) in self.catalog.deleted else self.catalog.versions.get((name, version))


def next_due(connection: Connection) -> float | None:
    """Unix time of the earliest timer, or None."""
    value: float | None = connection.execute(_NEXT_DUE).scalar()
    return value
