"""Tables of the Conversion Service's dialect: jobs, options, profiles, connections and due deliveries."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, Index, text
from sqlmodel import Field, SQLModel

from shared.database.statements import exclusive

Record = dict[str, Any]


class ConversionRow(SQLModel, table=True):
    """A job of this dialect. Its id is also that of the session that takes its data. The start clears its options."""

    __tablename__ = "conversion_job"
    id: str = Field(primary_key=True)
    tenant_id: str
    workflow: str
    profile: str
    name: str
    options: str
    created_at: float
    started_at: float | None = None
    job_id: str | None = None
    """Id of our job, set by the start."""
    __table_args__ = (Index("conversion_job_tenant", "tenant_id", "created_at"),)


class ConversionDataRow(SQLModel, table=True):
    """Options of one document."""

    __tablename__ = "conversion_data"
    id: str = Field(primary_key=True)
    conversion_id: str = Field(index=True)
    options: str


class ProfileRow(SQLModel, table=True):
    """Named default options of a workflow."""

    __tablename__ = "conversion_profile"
    tenant_id: str = Field(primary_key=True)
    workflow: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    options: str
    is_default: bool = False


class ConnectionRow(SQLModel, table=True):
    """An input of the Simple API: workflow and profile. With `output_url` results are sent there."""

    __tablename__ = "conversion_connection"
    tenant_id: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    workflow: str
    profile: str
    output_url: str | None = None


class OutletRow(SQLModel, table=True):
    """A job whose result is delivered once it has ended: to a URL, or to a watched folder."""

    __tablename__ = "conversion_outlet"
    job_id: str = Field(primary_key=True)
    tenant_id: str
    kind: str
    target: str
    attempt: int = 0
    due_at: float = Field(index=True)


MODELS: tuple[type[SQLModel], ...] = (ConversionRow, ConversionDataRow, ProfileRow, ConnectionRow, OutletRow)
_COUNT = text("SELECT count(*) FROM conversion_job WHERE tenant_id = :t")
_OLD = text("SELECT id FROM conversion_job WHERE tenant_id = :t AND created_at < :old")
_ENTER = text(
    "INSERT INTO conversion_job (id, tenant_id, workflow, profile, name, options, created_at) "
    "VALUES (:id, :t, :w, :p, :n, :o, :at)"
)
_BY_ID = text("SELECT * FROM conversion_job WHERE id = :i AND tenant_id = :t")
_OUTLET = text(
    "INSERT INTO conversion_outlet (job_id, tenant_id, kind, target, attempt, due_at) VALUES (:j, :t, :k, :u, 0, :at) ON CONFLICT DO NOTHING"
)


def enter(connection: Connection, row: Record, most: int, kept_s: float) -> bool:
    """Add a job. Returns False when the tenant has `most` already. Jobs older than `kept_s` seconds are deleted before."""
    at = row["at"]
    # The count and the insert belong together, also when several replicas insert at once.
    exclusive(connection, f"conversions:{row['t']}")
    for old in connection.execute(_OLD, {"t": row["t"], "old": at - kept_s}).scalars().all():
        forget(connection, old)
    if connection.execute(_COUNT, {"t": row["t"]}).scalar_one() >= most:
        return False
    connection.execute(_ENTER, row)
    return True


def find(connection: Connection, conversion_id: str, tenant: str) -> Any:
    """The tenant's job, or None."""
    return connection.execute(_BY_ID, {"i": conversion_id, "t": tenant}).first()


def listed(connection: Connection, tenant: str) -> list[Any]:
    """The tenant's jobs, newest first."""
    query = text("SELECT * FROM conversion_job WHERE tenant_id = :t ORDER BY created_at DESC LIMIT 10000")
    return list(connection.execute(query, {"t": tenant}))


def started(connection: Connection, conversion_id: str, job_id: str, at: float) -> None:
    """Mark a job as started and clear its options: our job has them now."""
    update = text("UPDATE conversion_job SET started_at = :at, job_id = :j, options = '[]' WHERE id = :i AND started_at IS NULL")
    connection.execute(update, {"at": at, "j": job_id, "i": conversion_id})
    connection.execute(text("DELETE FROM conversion_data WHERE conversion_id = :i"), {"i": conversion_id})


def forget(connection: Connection, conversion_id: str) -> None:
    """Delete the job's rows of this dialect."""
    connection.execute(text("DELETE FROM conversion_data WHERE conversion_id = :i"), {"i": conversion_id})
    connection.execute(text("DELETE FROM conversion_job WHERE id = :i"), {"i": conversion_id})


def save_data(connection: Connection, data_id: str, conversion_id: str, options: Any) -> None:
    """Store the options of a document."""
    insert = text("INSERT INTO conversion_data (id, conversion_id, options) VALUES (:i, :c, :o) ON CONFLICT DO NOTHING")
    connection.execute(insert, {"i": data_id, "c": conversion_id, "o": json.dumps(options)})


def data_options(connection: Connection, conversion_id: str) -> dict[str, Any]:
    """Id of each document of the job → its options."""
    rows = connection.execute(text("SELECT id, options FROM conversion_data WHERE conversion_id = :c"), {"c": conversion_id})
    return {r.id: json.loads(r.options) for r in rows}


def profiles(connection: Connection, tenant: str) -> list[Any]:
    """The tenant's profiles."""
    query = text("SELECT * FROM conversion_profile WHERE tenant_id = :t ORDER BY workflow, name")
    return list(connection.execute(query, {"t": tenant}))


def connection_by(connection: Connection, tenant: str, connection_id: str) -> Any:
    """A connection of the tenant, or None."""
    query = text("SELECT * FROM conversion_connection WHERE tenant_id = :t AND id = :i")
    return connection.execute(query, {"t": tenant, "i": connection_id}).first()


def add_delivery(connection: Connection, job_id: str, tenant: str, kind: str, target: str, at: float) -> None:
    """Schedule the delivery of a job's result."""
    connection.execute(_OUTLET, {"j": job_id, "t": tenant, "k": kind, "u": target, "at": at})


# Deliveries of jobs that run are no work yet.
_DUE = text(
    "SELECT * FROM (SELECT o.*, row_number() OVER (PARTITION BY o.tenant_id ORDER BY o.due_at, o.job_id) AS place FROM conversion_outlet o "
    "JOIN job_view j ON j.id = o.job_id WHERE o.due_at <= :now AND j.stage IN ('completed', 'failed', 'invalid', 'cancelled')) chosen "
    "ORDER BY place, due_at LIMIT 100"
)
_WAITING = text("SELECT 1 FROM conversion_outlet WHERE due_at <= :soon LIMIT 1")


def due_deliveries(connection: Connection, now: float) -> tuple[list[Any], bool]:
    """At most 100 deliveries of ended jobs that are due, tenants in turn; and whether others may soon be."""
    return list(connection.execute(_DUE, {"now": now})), connection.execute(_WAITING, {"soon": now + 10}).first() is not None


def reschedule_delivery(connection: Connection, job_id: str, attempt: int, due_at: float | None) -> None:
    """Try a delivery again at `due_at`; None ends it."""
    if due_at is None:
        connection.execute(text("DELETE FROM conversion_outlet WHERE job_id = :j"), {"j": job_id})
    else:
        again = text("UPDATE conversion_outlet SET attempt = :n, due_at = :at WHERE job_id = :j")
        connection.execute(again, {"n": attempt, "at": due_at, "j": job_id})
