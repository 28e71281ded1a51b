"""Tables of Invopop's dialect alone: entries with their files, workflows as clients sent them, and requests for jobs."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, Index, text
from sqlmodel import Field, SQLModel

Record = dict[str, Any]


class EntryRow(SQLModel, table=True):
    """A silo entry: a document that jobs process. `body` has everything but its files."""

    __tablename__ = "silo_entry"
    tenant_id: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    key: str | None = None
    created_at: float
    body: str
    __table_args__ = (
        Index("silo_entry_key", "tenant_id", "key", unique=True),
        Index("silo_entry_newest", "tenant_id", "created_at", "id"),
    )


class EntryFileRow(SQLModel, table=True):
    """A file of an entry, announced by its hash. `blob` is set once its bytes are stored."""

    __tablename__ = "silo_file"
    tenant_id: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    entry_id: str
    body: str
    blob: str | None = None
    __table_args__ = (Index("silo_file_entry", "tenant_id", "entry_id"),)


class FlowRow(SQLModel, table=True):
    """A workflow in Invopop's shape. `name` is the name of its translation, `version` the newest published version (0: none)."""

    __tablename__ = "silo_flow"
    tenant_id: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    name: str = Field(index=True)
    version: int
    created_at: float
    body: str
    shown: str
    """Steps of the translation → what they are called in the workflow, over all versions."""


class AskedRow(SQLModel, table=True):
    """The request for a job, as this dialect received it."""

    __tablename__ = "silo_job"
    tenant_id: str = Field(primary_key=True)
    job_id: str = Field(primary_key=True)
    key: str | None = None
    fingerprint: str
    created_at: float
    body: str
    __table_args__ = (Index("silo_job_key", "tenant_id", "key", unique=True),)


MODELS: tuple[type[SQLModel], ...] = (EntryRow, EntryFileRow, FlowRow, AskedRow)
RETENTION_S = 2 * 365.25 * 86_400
"""How long a job's key is kept: two years."""
_REQUEST = text(
    "INSERT INTO silo_job (tenant_id, job_id, key, fingerprint, created_at, body) VALUES (:t, :j, :k, :f, :at, :b) "
    "ON CONFLICT DO NOTHING"
)
_FLOW = text(
    "INSERT INTO silo_flow (tenant_id, id, name, version, created_at, body, shown) VALUES (:t, :i, :n, :v, :at, :b, :s) "
    "ON CONFLICT (tenant_id, id) DO UPDATE SET version = excluded.version, body = excluded.body, shown = excluded.shown"
)


def save_request(
    connection: Connection, tenant: str, job_id: str, key: str | None, fingerprint: str, body: Record, at: float
) -> Any:
    """Store the request for a job. Returns the row with this id or key: an earlier one, if there is one."""
    old = text("UPDATE silo_job SET key = NULL WHERE tenant_id = :t AND key = :k AND created_at < :old")
    connection.execute(old, {"t": tenant, "k": key, "old": at - RETENTION_S})
    values = {"t": tenant, "j": job_id, "k": key, "f": fingerprint, "at": at, "b": json.dumps(body)}
    connection.execute(_REQUEST, values)
    found = request_of(connection, tenant, job_id)
    return found if found is not None else request_by_key(connection, tenant, key or "")


def request_of(connection: Connection, tenant: str, job_id: str) -> Any:
    """The request for a job, or None."""
    query = text("SELECT * FROM silo_job WHERE tenant_id = :t AND job_id = :j")
    return connection.execute(query, {"t": tenant, "j": job_id}).first()


def request_by_key(connection: Connection, tenant: str, key: str) -> Any:
    """The request with this key, or None."""
    return connection.execute(text("SELECT * FROM silo_job WHERE tenant_id = :t AND key = :k"), {"t": tenant, "k": key}).first()


def enter_entry(connection: Connection, tenant: str, entry: Record, at: float) -> bool:
    """Add an entry. Returns False when its id or key is in use."""
    insert = text(
        "INSERT INTO silo_entry (tenant_id, id, key, created_at, body) VALUES (:t, :i, :k, :at, :b) ON CONFLICT DO NOTHING"
    )
    values = {"t": tenant, "i": entry["id"], "k": entry.get("key"), "at": at, "b": json.dumps(entry)}
    return bool(connection.execute(insert, values).rowcount)


def entry_by(connection: Connection, tenant: str, column: str, value: str) -> Record | None:
    """An entry by `id` or `key`, with its files."""
    assert column in ("id", "key")
    query = text(f"SELECT body FROM silo_entry WHERE tenant_id = :t AND {column} = :v")
    body = connection.execute(query, {"t": tenant, "v": value}).scalar()
    if body is None:
        return None
    entry: Record = json.loads(body)
    return {**entry, "attachments": files_of(connection, tenant, entry["id"])}


def save_entry(connection: Connection, tenant: str, entry: Record) -> None:
    """Replace an entry's body."""
    body = json.dumps({k: v for k, v in entry.items() if k != "attachments"})
    update = text("UPDATE silo_entry SET body = :b WHERE tenant_id = :t AND id = :i")
    connection.execute(update, {"t": tenant, "i": entry["id"], "b": body})


def files_of(connection: Connection, tenant: str, entry_id: str) -> list[Record]:
    """Files of an entry, as answers show them."""
    query = text("SELECT body, blob FROM silo_file WHERE tenant_id = :t AND entry_id = :e ORDER BY id")
    rows = connection.execute(query, {"t": tenant, "e": entry_id})
    return [{**json.loads(r.body), "stored": r.blob is not None} for r in rows]


def save_flow(connection: Connection, tenant: str, flow: Record, name: str, version: int, shown: Record, at: float) -> None:
    """Add a workflow, or replace it."""
    values = {"t": tenant, "i": flow["id"], "n": name, "v": version, "at": at, "b": json.dumps(flow), "s": json.dumps(shown)}
    connection.execute(_FLOW, values)


def flow_by(connection: Connection, tenant: str, column: str, value: str) -> Any:
    """A workflow's row by its `id`, or by the `name` of its translation; None if there is none."""
    assert column in ("id", "name")
    query = text(f"SELECT * FROM silo_flow WHERE tenant_id = :t AND {column} = :v")
    return connection.execute(query, {"t": tenant, "v": value}).first()
