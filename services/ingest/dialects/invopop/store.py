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
    folder: str | None = None
    """Empty for an entry in no folder. None where an older release wrote the entry: then `body` says it."""
    __table_args__ = (
        Index("silo_entry_key", "tenant_id", "key", unique=True),
        Index("silo_entry_newest", "tenant_id", "created_at", "id"),
        Index("silo_entry_folder", "tenant_id", "folder", "created_at", "id"),
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


class FlowGoneRow(SQLModel, table=True):
    """A deleted workflow: how jobs that ran it show its steps."""

    __tablename__ = "silo_flow_gone"
    tenant_id: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    shown: str
    deleted_at: float


MODELS: tuple[type[SQLModel], ...] = (EntryRow, EntryFileRow, FlowRow, FlowGoneRow, AskedRow)
GONE_S = 90 * 86_400
"""Seconds that the steps of a deleted workflow are shown under their names."""
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

MOST_FLOWS = 10_000
"""Workflows of a tenant that a list by schema looks at."""
FAR = 1e15
"""Farther away than any time, in Unix seconds."""
_BEFORE = (
    "created_at <= :b AND (created_at < :at OR (created_at = :at AND id < :last)) ORDER BY created_at DESC, id DESC LIMIT :n"
)
_AFTER = "created_at >= :b AND (created_at > :at OR (created_at = :at AND id > :last)) ORDER BY created_at, id LIMIT :n"
_IN_FOLDER = "(folder = :f OR folder IS NULL)"
_PAGES = {
    (False, False): text(f"SELECT id, created_at, body FROM silo_entry WHERE tenant_id = :t AND {_BEFORE}"),
    (False, True): text(f"SELECT id, created_at, body FROM silo_entry WHERE tenant_id = :t AND {_IN_FOLDER} AND {_BEFORE}"),
    (True, False): text(f"SELECT id, created_at, body FROM silo_entry WHERE tenant_id = :t AND {_AFTER}"),
    (True, True): text(f"SELECT id, created_at, body FROM silo_entry WHERE tenant_id = :t AND {_IN_FOLDER} AND {_AFTER}"),
}
"""Pages of entries by (oldest first, in one folder)."""


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
        "INSERT INTO silo_entry (tenant_id, id, key, created_at, body, folder) VALUES (:t, :i, :k, :at, :b, :f) ON CONFLICT DO NOTHING"
    )
    folder = entry.get("folder") or ""
    values = {"t": tenant, "i": entry["id"], "k": entry.get("key"), "at": at, "b": json.dumps(entry), "f": folder}
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
    update = text("UPDATE silo_entry SET body = :b, folder = :f WHERE tenant_id = :t AND id = :i")
    connection.execute(update, {"t": tenant, "i": entry["id"], "b": body, "f": entry.get("folder") or ""})


def entries_page(
    connection: Connection,
    tenant: str,
    folder: str | None,
    ascending: bool,
    bound: float | None,
    after: tuple[float, str] | None,
    n: int,
) -> list[Any]:
    """At most `n` rows (`id`, `created_at`, `body`), the newest first or, `ascending`, the oldest: from the time `bound` on, after the
    place of the previous page's last row. With `folder`, those in it alone."""
    query = _PAGES[ascending, folder is not None]
    far = -FAR if ascending else FAR
    values = {"t": tenant, "f": folder, "n": n, "b": far if bound is None else bound}
    after = after or (far, "")
    found: list[Any] = []
    while True:
        rows = connection.execute(query, {**values, "at": after[0], "last": after[1]}).all()
        found += [r for r in rows if folder is None or (json.loads(r.body).get("folder") or "") == folder]
        if len(found) >= n or len(rows) < n:
            return found[:n]
        after = (rows[-1].created_at, rows[-1].id)


def files_of(connection: Connection, tenant: str, entry_id: str) -> list[Record]:
    """Files of an entry, as answers show them but for their addresses."""
    query = text("SELECT id, body, blob FROM silo_file WHERE tenant_id = :t AND entry_id = :e ORDER BY id")
    return [shown_file(row) for row in connection.execute(query, {"t": tenant, "e": entry_id})]


def file_of(connection: Connection, tenant: str, entry_id: str, file_id: str) -> Any:
    """The row (`id`, `body`, `blob`) of an entry's file, or None."""
    query = text("SELECT id, body, blob FROM silo_file WHERE tenant_id = :t AND entry_id = :e AND id = :i")
    return connection.execute(query, {"t": tenant, "e": entry_id, "i": file_id}).first()


def shown_file(row: Any) -> Record:
    """A file as answers show it but for its address, from its row."""
    return {**json.loads(row.body), "id": row.id, "stored": row.blob is not None}


def has_file(connection: Connection, tenant: str, file_id: str) -> bool:
    """True when the tenant has a file with this id."""
    query = text("SELECT 1 FROM silo_file WHERE tenant_id = :t AND id = :i")
    return connection.execute(query, {"t": tenant, "i": file_id}).first() is not None


def save_flow(connection: Connection, tenant: str, flow: Record, name: str, version: int, shown: Record, at: float) -> None:
    """Add a workflow, or replace it."""
    values = {"t": tenant, "i": flow["id"], "n": name, "v": version, "at": at, "b": json.dumps(flow), "s": json.dumps(shown)}
    connection.execute(_FLOW, values)


def drop_empty_flow(connection: Connection, tenant: str, flow_id: str) -> None:
    """Delete a workflow of which nothing was saved."""
    drop = text("DELETE FROM silo_flow WHERE tenant_id = :t AND id = :i AND version = 0 AND shown = '{}' AND body = :empty")
    connection.execute(drop, {"t": tenant, "i": flow_id, "empty": json.dumps({"id": flow_id})})


def delete_flow(connection: Connection, tenant: str, flow_id: str, at: float) -> None:
    """Delete a workflow; its jobs can still show their steps."""
    keep = text(
        "INSERT INTO silo_flow_gone (tenant_id, name, shown, deleted_at) SELECT tenant_id, name, shown, CAST(:at AS double precision) "
        "FROM silo_flow WHERE tenant_id = :t AND id = :i AND version > 0 ON CONFLICT DO NOTHING"
    )
    values = {"t": tenant, "i": flow_id, "at": at}
    connection.execute(text("DELETE FROM silo_flow_gone WHERE deleted_at < :old"), {"old": at - GONE_S})
    connection.execute(keep, values)
    connection.execute(text("DELETE FROM silo_flow WHERE tenant_id = :t AND id = :i"), values)


def shown_steps(connection: Connection, tenant: str, name: str) -> str | None:
    """How jobs of the workflow `name` show its steps, also when it is deleted; None for other workflows."""
    query = text(
        "SELECT shown FROM silo_flow WHERE tenant_id = :t AND name = :n UNION ALL "
        "SELECT shown FROM silo_flow_gone WHERE tenant_id = :t AND name = :n LIMIT 1"
    )
    found: str | None = connection.execute(query, {"t": tenant, "n": name}).scalar()
    return found


def flow_by(connection: Connection, tenant: str, column: str, value: str) -> Any:
    """A workflow's row by its `id`, or by the `name` of its translation; None if there is none."""
    assert column in ("id", "name")
    query = text(f"SELECT * FROM silo_flow WHERE tenant_id = :t AND {column} = :v")
    return connection.execute(query, {"t": tenant, "v": value}).first()


def flows_before(connection: Connection, tenant: str, bound: float, schema: str | None, n: int) -> list[Any]:
    """At most `n` rows of workflows made at the time `bound` or before, the newest first; with `schema`, those for it alone."""
    query = text(
        "SELECT body, version, created_at FROM silo_flow WHERE tenant_id = :t AND created_at <= :b ORDER BY created_at DESC, id LIMIT :n"
    )
    rows = connection.execute(query, {"t": tenant, "b": bound, "n": n if schema is None else MOST_FLOWS})
    return [r for r in rows if schema is None or json.loads(r.body).get("schema") == schema][:n]
