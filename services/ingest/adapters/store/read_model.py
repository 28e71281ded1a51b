"""Tables of the read model: records as JSON, history, held ends, pending texts; and the answers that requests wait for."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic_core import from_json, to_json
from sqlalchemy import Connection, Index, text
from sqlmodel import Field, SQLModel

from shared.database.bulk_statements import BulkStatement
from shared.database.columns import only_where
from shared.database.statements import Statement, as_list
from shared.database.store import BIG_ID
from shared.web.api_keys import AccessRow

Record = dict[str, Any]


class JobRow(SQLModel, table=True):
    """A job's record, and the columns that searches use."""

    __tablename__ = "job_view"
    id: str = Field(primary_key=True)
    tenant_id: str
    created_at: float
    body: str
    stage: str | None = None
    workflow: str | None = None
    stage_since: float | None = None
    __table_args__ = (
        Index("job_view_created", "tenant_id", "created_at", "id"),
        Index("job_view_stage", "tenant_id", "stage", "created_at", "id"),
        Index("job_view_since", "tenant_id", "stage", "stage_since", "id"),
        Index("job_view_workflow", "tenant_id", "workflow", "created_at", "id"),
    )


class FileRow(SQLModel, table=True):
    """A file's record."""

    __tablename__ = "file_view"
    id: str = Field(primary_key=True)
    tenant_id: str
    session_id: str | None = Field(default=None, index=True)
    job_id: str | None = Field(default=None, index=True)
    created_at: float
    body: str
    __table_args__ = (Index("file_view_newest", "tenant_id", "created_at", "id"),)


class SessionRow(SQLModel, table=True):
    """A deferred session's record."""

    __tablename__ = "session_view"
    id: str = Field(primary_key=True)
    tenant_id: str
    body: str
    status: str | None = None
    changed_at: float | None = None
    """Unix time of the newest change. Like `status`, it is None where a previous release has written the row."""
    __table_args__ = (Index("session_view_unused", "changed_at", **only_where("status IN ('open', 'expired')")),)


class HistoryRow(SQLModel, table=True):
    """Events of a job and its files, in order of arrival."""

    __tablename__ = "history"
    id: int | None = Field(default=None, primary_key=True, sa_type=BIG_ID)
    job_id: str = Field(index=True)
    body: str


class DecisionRow(SQLModel, table=True):
    """The answer to a command."""

    __tablename__ = "decision"
    command_id: str = Field(primary_key=True)
    at: float = Field(index=True)
    body: str


class HeldEndRow(SQLModel, table=True):
    """A job whose end is held back (`core/job_end.py`), until `due_at` at most."""

    __tablename__ = "held_end"
    job_id: str = Field(primary_key=True)
    due_at: float


class EarlyEndRow(SQLModel, table=True):
    """Number of a job's file ends that were read before any event of the job."""

    __tablename__ = "early_end"
    job_id: str = Field(primary_key=True)
    file_ends: int
    at: float


class IndexPendingRow(SQLModel, table=True):
    """A file whose text is not in the full-text index yet."""

    __tablename__ = "index_pending"
    file_id: str = Field(primary_key=True)
    tenant_id: str
    file_name: str
    blob: str


class IdempotencyRow(SQLModel, table=True):
    """An idempotency key: the same key with the same body stands for the same job."""

    __tablename__ = "idempotency"
    tenant_id: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    fingerprint: str
    created_at: float


MODELS: tuple[type[SQLModel], ...] = (
    JobRow, FileRow, SessionRow, HistoryRow, DecisionRow, HeldEndRow, EarlyEndRow, IndexPendingRow, IdempotencyRow, AccessRow,
)  # fmt: skip

_HISTORY = BulkStatement(
    "INSERT INTO history (job_id, body) VALUES (:job_id, :body)",
    # Ids are counted in the order given.
    "INSERT INTO history (job_id, body) SELECT job_id, body FROM unnest(CAST(:job_id AS text[]), CAST(:body AS text[])) "
    "WITH ORDINALITY AS given(job_id, body, place) ORDER BY place",
)
_DECIDED = BulkStatement(
    "INSERT INTO decision (command_id, at, body) VALUES (:id, :at, :body) ON CONFLICT DO NOTHING",
    "INSERT INTO decision (command_id, at, body) SELECT * FROM unnest(CAST(:id AS text[]), CAST(:at AS double precision[]), "
    "CAST(:body AS text[])) ON CONFLICT DO NOTHING",
)
_RECORDS = {
    t: Statement(f"SELECT id, body FROM {t} WHERE id IN (SELECT value FROM [ids])")
    for t in ("job_view", "file_view", "session_view")
}
_DECISIONS = Statement("SELECT command_id, body FROM decision WHERE command_id IN (SELECT value FROM [ids])")
_NEW_TEXT = (
    "ON CONFLICT (file_id) DO UPDATE SET tenant_id = excluded.tenant_id, file_name = excluded.file_name, blob = excluded.blob"
)
_PENDING = BulkStatement(
    f"INSERT INTO index_pending (file_id, tenant_id, file_name, blob) VALUES (:file_id, :tenant_id, :file_name, :blob) {_NEW_TEXT}",
    "INSERT INTO index_pending (file_id, tenant_id, file_name, blob) SELECT * FROM unnest(CAST(:file_id AS text[]), "
    f"CAST(:tenant_id AS text[]), CAST(:file_name AS text[]), CAST(:blob AS text[])) {_NEW_TEXT}",
)
_NEW_STATE = (
    "ON CONFLICT (id) DO UPDATE SET body = excluded.body, stage = excluded.stage, workflow = excluded.workflow, "
    "stage_since = excluded.stage_since"
)
_SAVE_JOB = BulkStatement(
    "INSERT INTO job_view (id, tenant_id, created_at, body, stage, workflow, stage_since) "
    f"VALUES (:id, :tenant, :created_at, :body, :stage, :workflow, :since) {_NEW_STATE}",
    "INSERT INTO job_view (id, tenant_id, created_at, body, stage, workflow, stage_since) SELECT * FROM unnest(CAST(:id AS text[]), "
    "CAST(:tenant AS text[]), CAST(:created_at AS double precision[]), CAST(:body AS text[]), CAST(:stage AS text[]), "
    f"CAST(:workflow AS text[]), CAST(:since AS double precision[])) {_NEW_STATE}",
)
# Without the workflow, where it is unchanged: the index over it is left alone.
_MOVE_JOB = BulkStatement(
    "UPDATE job_view SET body = :body, stage = :stage, stage_since = :since WHERE id = :id",
    "UPDATE job_view SET body = given.body, stage = given.stage, stage_since = given.since FROM unnest(CAST(:id AS text[]), "
    "CAST(:body AS text[]), CAST(:stage AS text[]), CAST(:since AS double precision[])) AS given(id, body, stage, since) "
    "WHERE job_view.id = given.id",
)
_NEW_FACTS = (
    "ON CONFLICT (id) DO UPDATE SET body = excluded.body, job_id = excluded.job_id, "
    "session_id = coalesce(file_view.session_id, excluded.session_id)"
)
_SAVE_FILE = BulkStatement(
    "INSERT INTO file_view (id, tenant_id, session_id, job_id, created_at, body) "
    f"VALUES (:id, :tenant, :session_id, :job_id, :created_at, :body) {_NEW_FACTS}",
    "INSERT INTO file_view (id, tenant_id, session_id, job_id, created_at, body) SELECT * FROM unnest(CAST(:id AS text[]), "
    "CAST(:tenant AS text[]), CAST(:session_id AS text[]), CAST(:job_id AS text[]), CAST(:created_at AS double precision[]), "
    f"CAST(:body AS text[])) {_NEW_FACTS}",
)
_HOLD = BulkStatement(
    "INSERT INTO held_end (job_id, due_at) VALUES (:job_id, :due_at) ON CONFLICT DO NOTHING",
    "INSERT INTO held_end (job_id, due_at) SELECT * FROM unnest(CAST(:job_id AS text[]), CAST(:due_at AS double precision[])) "
    "ON CONFLICT DO NOTHING",
)
_UNHOLD = Statement("DELETE FROM held_end WHERE job_id IN (SELECT value FROM [ids])")
_EARLY = Statement("SELECT job_id, file_ends FROM early_end WHERE job_id IN (SELECT value FROM [ids])")
_MORE = "ON CONFLICT (job_id) DO UPDATE SET file_ends = excluded.file_ends, at = excluded.at"
_SAVE_EARLY = BulkStatement(
    f"INSERT INTO early_end (job_id, file_ends, at) VALUES (:job_id, :file_ends, :at) {_MORE}",
    "INSERT INTO early_end (job_id, file_ends, at) SELECT * FROM unnest(CAST(:job_id AS text[]), CAST(:file_ends AS integer[]), "
    f"CAST(:at AS double precision[])) {_MORE}",
)
_KNOWN = Statement("DELETE FROM early_end WHERE job_id IN (SELECT value FROM [ids])")
_NEW_SESSION = "ON CONFLICT (id) DO UPDATE SET body = excluded.body, status = excluded.status, changed_at = excluded.changed_at"
_SAVE_SESSION = BulkStatement(
    f"INSERT INTO session_view (id, tenant_id, body, status, changed_at) VALUES (:id, :tenant, :body, :status, :at) {_NEW_SESSION}",
    "INSERT INTO session_view (id, tenant_id, body, status, changed_at) SELECT * FROM unnest(CAST(:id AS text[]), "
    "CAST(:tenant AS text[]), CAST(:body AS text[]), CAST(:status AS text[]), CAST(:at AS double precision[])) "
    f"{_NEW_SESSION}",
)


def records(connection: Connection, table: str, ids: Iterable[str]) -> dict[str, Record]:
    """Records of `job_view`, `file_view` or `session_view` by id, as far as they exist."""
    return {i: from_json(body) for i, body in _RECORDS[table].rows(connection, {"ids": as_list(ids)})}


def decisions(connection: Connection, command_ids: Iterable[str]) -> dict[str, str]:
    """Answers by command id as JSON, as far as there are any."""
    return {i: body for i, body in _DECISIONS.rows(connection, {"ids": as_list(command_ids)})}


def save_jobs(connection: Connection, jobs: Iterable[tuple[float, Record]], stored: Mapping[str, str | None]) -> None:
    """Write job records with their creation times (Unix seconds). `stored` has the present workflow of each job that has a row."""
    new: list[dict[str, Any]] = []
    moved: list[dict[str, Any]] = []
    for at, r in jobs:
        job_id, workflow = r["id"], r.get("workflow")
        row = {"id": job_id, "body": to_json(r).decode(), "stage": r.get("stage"), "since": r.get("stage_since", at)}
        if job_id in stored and stored[job_id] == workflow:
            moved.append(row)
        else:
            new.append({**row, "tenant": r["company_id"], "created_at": at, "workflow": workflow})
    _MOVE_JOB.run(connection, moved)
    _SAVE_JOB.run(connection, new)


def save_files(connection: Connection, files: Iterable[tuple[float, Record]]) -> None:
    """Write file records with their creation times (Unix seconds)."""
    rows = [
        {
            "id": r["id"], "tenant": r["company_id"], "session_id": r["deferred_session_id"], "job_id": r["job_id"],
            "created_at": at, "body": to_json(r).decode(),
        }
        for at, r in files
    ]  # fmt: skip
    _SAVE_FILE.run(connection, rows)


def hold_ends(connection: Connection, held: Iterable[str], shown: Collection[str], due_at: float) -> None:
    """Remember jobs whose ends are `held` until `due_at` (Unix seconds); drop those whose ends are `shown`."""
    _HOLD.run(connection, [{"job_id": job_id, "due_at": due_at} for job_id in held])
    if shown:
        _UNHOLD.run(connection, {"ids": json.dumps(list(shown))})


def early_ends(connection: Connection, job_ids: Iterable[str]) -> dict[str, int]:
    """Number of file ends that were read of unknown jobs, by job id."""
    return {i: n for i, n in _EARLY.rows(connection, {"ids": json.dumps(list(job_ids))})}


def save_early_ends(connection: Connection, early: Mapping[str, int], known: Collection[str], at: float) -> None:
    """Write the number of file ends of unknown jobs; delete those of jobs that are `known` now."""
    _SAVE_EARLY.run(connection, [{"job_id": job_id, "file_ends": n, "at": at} for job_id, n in early.items()])
    if known:
        _KNOWN.run(connection, {"ids": json.dumps(list(known))})


def save_sessions(connection: Connection, sessions: Iterable[Record]) -> None:
    """Write session records."""
    rows = [
        {
            "id": r["id"], "tenant": r["company_id"], "body": to_json(r).decode(), "status": r["status"],
            "at": datetime.fromisoformat(r["update_date"]).timestamp(),
        }
        for r in sessions
    ]  # fmt: skip
    _SAVE_SESSION.run(connection, rows)


def save_history(connection: Connection, rows: Sequence[tuple[str, str]]) -> None:
    """Append rows of (job id, event as JSON)."""
    _HISTORY.run(connection, [{"job_id": job_id, "body": body} for job_id, body in rows])


def save_decisions(connection: Connection, rows: Sequence[tuple[str, Record]], at: float) -> None:
    """Store answers by command id, unless there is one. Deletes answers older than a day."""
    values = [{"id": command_id, "at": at, "body": json.dumps(body)} for command_id, body in rows]
    if values:
        _DECIDED.run(connection, values)
        connection.execute(text("DELETE FROM decision WHERE at < :old"), {"old": at - 86_400})


def await_index(connection: Connection, rows: Sequence[Record]) -> None:
    """Add files whose text is pending: `file_id`, `tenant_id`, `file_name`, and `blob` of the text. The last row of a file counts."""
    _PENDING.run(connection, list({row["file_id"]: row for row in rows}.values()))
