"""Tables for operators: search terms, backlog, workflows, schedules, bulk runs, audit."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Index, text
from sqlmodel import Field, SQLModel

from contracts import BacklogState, CommandDecided, ScheduleState, WorkflowPublished
from shared.database.bulk_statements import BulkStatement
from shared.database.store import BIG_ID

Record = dict[str, Any]


class TermRow(SQLModel, table=True):
    """A term that a job is found by, e.g. `tag:invoice` or `metadata.case=42`."""

    __tablename__ = "job_term"
    tenant_id: str = Field(primary_key=True)
    term: str = Field(primary_key=True)
    created_at: float = Field(primary_key=True)
    job_id: str = Field(primary_key=True)
    __table_args__ = (Index("job_term_job", "job_id"), {"sqlite_with_rowid": False})


class BacklogRow(SQLModel, table=True):
    """The newest backlog of one orchestrator."""

    __tablename__ = "backlog_view"
    source: str = Field(primary_key=True)
    at: float
    body: str


class WorkflowRow(SQLModel, table=True):
    """A published workflow version."""

    __tablename__ = "workflow_view"
    name: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    body: str


class ScheduleRow(SQLModel, table=True):
    """The newest revision of a schedule."""

    __tablename__ = "schedule_view"
    id: str = Field(primary_key=True)
    tenant_id: str
    revision: int
    body: str


class DraftRow(SQLModel, table=True):
    """A workflow that is not published yet."""

    __tablename__ = "workflow_draft"
    name: str = Field(primary_key=True)
    body: str


class QueryRow(SQLModel, table=True):
    """A saved search."""

    __tablename__ = "saved_query"
    tenant_id: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    body: str


class BulkRow(SQLModel, table=True):
    """A bulk run and its progress."""

    __tablename__ = "bulk"
    id: str = Field(primary_key=True)
    tenant_id: str
    created_at: float
    state: str
    body: str


class AuditRow(SQLModel, table=True):
    """A command of a user and its outcome."""

    __tablename__ = "audit"
    id: int | None = Field(default=None, primary_key=True, sa_type=BIG_ID)
    tenant_id: str
    at: float
    body: str
    __table_args__ = (Index("audit_newest", "tenant_id", "id"),)


MODELS: tuple[type[SQLModel], ...] = (TermRow, BacklogRow, WorkflowRow, ScheduleRow, DraftRow, QueryRow, BulkRow, AuditRow)
_TERM = BulkStatement(
    "INSERT INTO job_term (tenant_id, term, created_at, job_id) VALUES (:tenant, :term, :at, :job) ON CONFLICT DO NOTHING",
    "INSERT INTO job_term (tenant_id, term, created_at, job_id) SELECT * FROM unnest(CAST(:tenant AS text[]), CAST(:term AS text[]), "
    "CAST(:at AS double precision[]), CAST(:job AS text[])) ON CONFLICT DO NOTHING",
)
_BACKLOG = text(
    "INSERT INTO backlog_view (source, at, body) VALUES (:source, :at, :body) "
    "ON CONFLICT (source) DO UPDATE SET at = excluded.at, body = excluded.body"
)
_OLD_BACKLOG = text("DELETE FROM backlog_view WHERE at < :old")
_WORKFLOW = text(
    "INSERT INTO workflow_view (name, version, body) VALUES (:name, :version, :body) "
    "ON CONFLICT (name, version) DO UPDATE SET body = excluded.body"
)
_SCHEDULE = text(
    "INSERT INTO schedule_view (id, tenant_id, revision, body) VALUES (:id, :tenant, :revision, :body) ON CONFLICT (id) DO UPDATE SET "
    "revision = excluded.revision, body = excluded.body WHERE schedule_view.revision < excluded.revision"
)
_AUDIT = text("INSERT INTO audit (tenant_id, at, body) VALUES (:tenant, :at, :body)")


def save_terms(connection: Connection, rows: Iterable[tuple[str, str, float, str]]) -> None:
    """Add rows of (tenant, term, creation time of the job, job id). Existing rows stay."""
    values = [{"tenant": t, "term": term, "at": at, "job": job} for t, term, at, job in sorted(set(rows))]
    _TERM.run(connection, values)


def save_backlog(connection: Connection, state: BacklogState) -> None:
    """Keep the newest state of each orchestrator, and delete states that are an hour older."""
    at = state.observed_at.timestamp()
    connection.execute(_BACKLOG, {"source": state.source, "at": at, "body": state.to_json().decode()})
    connection.execute(_OLD_BACKLOG, {"old": at - 3600})


def save_workflow(connection: Connection, event: WorkflowPublished) -> None:
    """Store a published version."""
    connection.execute(_WORKFLOW, {"name": event.name, "version": event.version, "body": event.to_json().decode()})


def save_schedule(connection: Connection, state: ScheduleState) -> None:
    """Store a schedule, unless a newer revision is stored."""
    values = {"id": state.schedule_id, "tenant": state.tenant, "revision": state.revision, "body": state.to_json().decode()}
    connection.execute(_SCHEDULE, values)


def save_audit(connection: Connection, decided: Sequence[CommandDecided]) -> None:
    """Add decided commands to the audit."""
    rows = [
        {
            "tenant": d.tenant_id, "at": d.occurred_at.timestamp(),
            "body": d.model_dump_json(include={"subject", "verb", "ok", "code", "message", "by", "reason", "job_id", "command_id", "occurred_at"}),
        }
        for d in decided
    ]  # fmt: skip
    if rows:
        connection.execute(_AUDIT, rows)


def rows_of(connection: Connection, query: str, values: Record) -> list[Record]:
    """The `body` column of the query's rows, parsed."""
    return [json.loads(body) for body in connection.execute(text(query), values).scalars()]
