"""Tables for operators: search terms, backlog, workflows, schedules, bulk runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Index, text
from sqlmodel import Field, SQLModel

from contracts import BacklogState, CommandDecided, ScheduleState, WorkflowPublished
from services.ingest.adapters.store.audit import append
from shared.database.bulk_statements import BulkStatement

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


class WorkflowGoneRow(SQLModel, table=True):
    """A published version that is deleted. Its body stays for the jobs that run it."""

    __tablename__ = "workflow_gone"
    name: str = Field(primary_key=True)
    version: int = Field(primary_key=True)


class TenantActionRow(SQLModel, table=True):
    """An action that a tenant's workflows may name: introduced by the tenant, or allowed by an admin of the platform."""

    __tablename__ = "tenant_action"
    tenant_id: str = Field(primary_key=True)
    action: str = Field(primary_key=True)
    allowed: bool
    """Allowed by the platform: it takes no place in the tenant's quota."""
    created_at: float


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


MODELS: tuple[type[SQLModel], ...] = (
    TermRow, BacklogRow, WorkflowRow, WorkflowGoneRow, TenantActionRow, ScheduleRow, DraftRow, QueryRow, BulkRow,
)  # fmt: skip
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
_DELETED = text("INSERT INTO workflow_gone (name, version) VALUES (:name, :version) ON CONFLICT DO NOTHING")
_SCHEDULE = text(
    "INSERT INTO schedule_view (id, tenant_id, revision, body) VALUES (:id, :tenant, :revision, :body) ON CONFLICT (id) DO UPDATE SET "
    "revision = excluded.revision, body = excluded.body WHERE schedule_view.revision < excluded.revision"
)


LIVE = "NOT EXISTS (SELECT 1 FROM workflow_gone g WHERE g.name = workflow_view.name AND g.version = workflow_view.version)"
"""Condition on `workflow_view`: the version is not deleted."""


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
    """Store a published version, or note that it is deleted."""
    if event.deleted:
        connection.execute(_DELETED, {"name": event.name, "version": event.version})
        return
    connection.execute(_WORKFLOW, {"name": event.name, "version": event.version, "body": event.to_json().decode()})


def save_schedule(connection: Connection, state: ScheduleState) -> bool:
    """Store a schedule. Returns False when a revision as new is stored."""
    values = {"id": state.schedule_id, "tenant": state.tenant, "revision": state.revision, "body": state.to_json().decode()}
    return bool(connection.execute(_SCHEDULE, values).rowcount)


def save_audit(connection: Connection, decided: Sequence[CommandDecided]) -> None:
    """Add decided commands to the audit."""
    shown = {"subject", "verb", "ok", "code", "message", "by", "reason", "job_id", "command_id", "occurred_at"}
    append(connection, [(d.tenant_id, d.occurred_at.timestamp(), d.model_dump_json(include=shown)) for d in decided])


def rows_of(connection: Connection, query: str, values: Record) -> list[Record]:
    """The `body` column of the query's rows, parsed."""
    return [json.loads(body) for body in connection.execute(text(query), values).scalars()]
