"""Erases jobs, sessions and entries from the read model, and counts which objects are still needed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Index, text
from sqlmodel import Field, SQLModel

from contracts import JobErased, SessionErased, derived
from contracts.ownership import owns
from services.ingest.adapters.store import erasure_requests, uploads
from services.ingest.adapters.store.audit import Entry, add_entries
from services.ingest.adapters.store.former_files import leave
from services.ingest.adapters.store.object_claims import doom
from services.ingest.adapters.store.reservations import release
from shared.database.bulk_statements import BulkStatement
from shared.database.statements import Statement, as_list, exclusive, is_shared

RETENTION_S = 100 * 86_400
"""How long the id of an erased job is kept: longer than its events stay in a topic."""
BLOBS = ("blob_name", "text_blob", "result_blob", "index_blob")


class ErasedRow(SQLModel, table=True):
    """Id of an erased job. Its late events are skipped."""

    __tablename__ = "erased"
    job_id: str = Field(primary_key=True)
    at: float


class BlobRefRow(SQLModel, table=True):
    """An object that a file needs. Equal content is one object, so several files may need it."""

    __tablename__ = "blob_ref"
    blob: str = Field(primary_key=True)
    file_id: str = Field(primary_key=True)
    __table_args__ = (Index("blob_ref_file", "file_id"), {"sqlite_with_rowid": False})


class DoomedRow(SQLModel, table=True):
    """An object to delete, as the previous release writes it; `object_claims.py` has the table that is used now."""

    __tablename__ = "blob_doomed"
    blob: str = Field(primary_key=True)


class RetentionRow(SQLModel, table=True):
    """Days after which ended jobs of a tenant are erased."""

    __tablename__ = "retention"
    tenant_id: str = Field(primary_key=True)
    days: float


MODELS: tuple[type[SQLModel], ...] = (ErasedRow, BlobRefRow, DoomedRow, RetentionRow)
_ERASED = Statement("SELECT job_id FROM erased WHERE job_id IN (SELECT value FROM [ids])")
_FORGET = text("INSERT INTO erased (job_id, at) VALUES (:j, :at) ON CONFLICT DO NOTHING")
_FILES = text("SELECT id FROM file_view WHERE job_id = :j")
_OF_JOB = [
    text(f"DELETE FROM {t} WHERE job_id = :j")
    for t in ("history", "job_term", "file_view", "held_end", "early_end", "recycled_file")
] + [
    text("DELETE FROM job_view WHERE id = :j AND tenant_id = :t"),
    text("DELETE FROM silo_job WHERE job_id = :j AND tenant_id = :t"),
    text("DELETE FROM conversion_job WHERE job_id = :j AND tenant_id = :t"),
    text("DELETE FROM conversion_outlet WHERE job_id = :j AND tenant_id = :t"),
]
_ENDED_UPLOADS = text("DELETE FROM upload WHERE session_id = :s AND tenant_id = :t AND state = 'done'")
_UPLOADS = text("SELECT id FROM upload WHERE session_id = :s AND tenant_id = :t")
_ENTRY = text("DELETE FROM silo_entry WHERE id = :e AND tenant_id = :t")
_ENTRY_FILES = text("SELECT id FROM silo_file WHERE entry_id = :e AND tenant_id = :t")
_ENTRY_FILE = text("DELETE FROM silo_file WHERE id = :f AND tenant_id = :t RETURNING blob")
_CHILDREN = text("SELECT job_id FROM job_term WHERE tenant_id = :t AND term = :term")
_CONVERSION = [
    text("DELETE FROM conversion_data WHERE conversion_id IN (SELECT id FROM conversion_job WHERE id = :s AND tenant_id = :t)"),
    text("DELETE FROM conversion_job WHERE id = :s AND tenant_id = :t"),
]
_SESSION_FILES = text("SELECT id FROM file_view WHERE session_id = :s AND tenant_id = :t AND job_id IS NULL")
_FILE_VIEWS = Statement("DELETE FROM file_view WHERE id IN (SELECT value FROM [ids])")
_SESSION = text("DELETE FROM session_view WHERE id = :s AND tenant_id = :t")
_OF_FILES = [
    Statement(f"DELETE FROM {t} WHERE file_id IN (SELECT value FROM [ids])")
    for t in ("index_pending", "blob_ref", "share_link", "object_claim", "recycled_file")
] + [Statement("DELETE FROM row_turn WHERE id IN (SELECT value FROM [ids])")]
_SEARCH = Statement("DELETE FROM search WHERE file_id IN (SELECT value FROM [ids])")
_SEARCH_LITE = text("DELETE FROM search WHERE rowid IN (SELECT rowid FROM file_view WHERE job_id = :j)")
_THEIR_BLOBS = Statement("SELECT DISTINCT blob FROM blob_ref WHERE file_id IN (SELECT value FROM [ids])")
_CLAIMED = Statement("SELECT DISTINCT blob FROM object_claim WHERE file_id IN (SELECT value FROM [ids])")
_REF = BulkStatement(
    "INSERT INTO blob_ref (blob, file_id) VALUES (:blob, :file_id) ON CONFLICT DO NOTHING",
    "INSERT INTO blob_ref (blob, file_id) SELECT * FROM unnest(CAST(:blob AS text[]), CAST(:file_id AS text[])) "
    "ON CONFLICT DO NOTHING",
)


def erased(connection: Connection, job_ids: Iterable[str]) -> set[str]:
    """Those of `job_ids` that are erased."""
    return set(_ERASED.run(connection, {"ids": as_list(job_ids)}).scalars().all())


def save_refs(connection: Connection, records: Iterable[dict[str, Any]]) -> None:
    """Record which objects files and job outputs need. A name of another tenant's object is left out: it must not outlive its owner's erasure."""
    rows = []
    for record in records:
        named = [record[name] for name in BLOBS if record.get(name)] + [
            output["blob_name"] for output in record.get("outputs") or ()
        ]
        rows += [{"blob": blob, "file_id": record["id"]} for blob in named if owns(record["company_id"], blob)]
    _REF.run(connection, rows)


def add_refs(connection: Connection, tenant: str, file_id: str, blobs: Iterable[str]) -> None:
    """Record that `file_id` of a tenant, which is no file of a job, needs objects: they outlive jobs with the same content."""
    _REF.run(connection, [{"blob": blob, "file_id": _entry_file_ref(tenant, file_id)} for blob in blobs])


def erase_job(connection: Connection, event: JobErased, now: float) -> None:
    """Delete everything of the job, and ask for the erasure of its child jobs. A file that it ran again goes back to the job before.
    `ObjectDeletion` deletes its objects, unless another file needs them."""
    connection.execute(_FORGET, {"j": event.job_id, "at": now})
    connection.execute(text("DELETE FROM erased WHERE at < :old"), {"old": now - RETENTION_S})
    files = [event.job_id, *leave(connection, event.job_id, list(connection.execute(_FILES, {"j": event.job_id}).scalars()))]
    if is_shared(connection):
        _SEARCH.run(connection, {"ids": json.dumps(files)})
    else:
        # By the files' row ids: the full-text table has no other index.
        connection.execute(_SEARCH_LITE, {"j": event.job_id})
    erase_files(connection, event.tenant_id, files, event.blobs, now)
    for child in connection.execute(_CHILDREN, {"t": event.tenant_id, "term": f"parent_job_id:{event.job_id}"}).scalars().all():
        erasure_requests.ask(connection, "job", child, event.tenant_id, event.by, event.reason, now)
    release(connection, event.tenant_id, [event.job_id])
    connection.execute(_ENDED_UPLOADS, {"s": event.session_id or "", "t": event.tenant_id})
    # The entry made of data that came with the job. An entry that existed before stays.
    erase_entry(connection, event.tenant_id, derived(event.job_id, "entry"), now)
    for statement in _OF_JOB:
        connection.execute(statement, {"j": event.job_id, "t": event.tenant_id})
    for statement in (*_CONVERSION, _SESSION):
        connection.execute(statement, {"s": event.session_id or "", "t": event.tenant_id})


def erase_session(connection: Connection, event: SessionErased, now: float) -> None:
    """Delete everything of a session that became no job: its files, its uploads in any state, its conversion."""
    names = {"s": event.session_id, "t": event.tenant}
    files = list(connection.execute(_SESSION_FILES, names).scalars())
    unfinished = list(connection.execute(_UPLOADS, names).scalars())
    parts = [blob for upload_id in unfinished for blob in uploads.forget(connection, upload_id)]
    claims = [uploads.file_id_of(upload_id) for upload_id in unfinished]
    erase_files(connection, event.tenant, [event.session_id, *files, *claims, *unfinished], [*event.blobs, *parts], now)
    _FILE_VIEWS.run(connection, {"ids": json.dumps(files)})
    for statement in (*_CONVERSION, _SESSION):
        connection.execute(statement, names)
    if event.part == 0:
        entry = Entry(event.tenant, now, "session.erase", event.session_id, event.owner.user_name, reason=event.reason)
        add_entries(connection, [entry])


def erase_files(connection: Connection, tenant: str, files: Sequence[str], blobs: Iterable[str], now: float) -> None:
    """Delete what depends on files, and note their objects and `blobs` for deletion."""
    ids = {"ids": json.dumps(files)}
    named = {*blobs, *_THEIR_BLOBS.run(connection, ids).scalars(), *_CLAIMED.run(connection, ids).scalars()}
    doom(connection, {blob for blob in named if owns(tenant, blob)}, now)
    release(connection, tenant, files)
    for by_file in _OF_FILES:
        by_file.run(connection, ids)


def erase_entry(connection: Connection, tenant: str, entry_id: str, now: float) -> bool:
    """Delete an entry of the silo with its files. Returns False when there is none."""
    lock_entry(connection, tenant, entry_id)
    for file_id in connection.execute(_ENTRY_FILES, {"e": entry_id, "t": tenant}).scalars().all():
        erase_entry_file(connection, tenant, file_id, now)
    return bool(connection.execute(_ENTRY, {"e": entry_id, "t": tenant}).rowcount)


def erase_entry_file(connection: Connection, tenant: str, file_id: str, now: float) -> bool:
    """Delete a file of an entry. Returns False when there is none."""
    row = connection.execute(_ENTRY_FILE, {"f": file_id, "t": tenant}).first()
    if row is None:
        return False
    names = [_entry_file_ref(tenant, file_id), derived(tenant, file_id, "silo")]
    erase_files(connection, tenant, names, [row.blob] if row.blob else [], now)
    return True


def lock_entry(connection: Connection, tenant: str, entry_id: str) -> None:
    """Let nobody else erase this entry, or add a file to it, until the transaction ends."""
    exclusive(connection, f"entry:{tenant}/{entry_id}")


def _entry_file_ref(tenant: str, file_id: str) -> str:
    # The caller chose the id: with the tenant in it, no erasure of another tenant's job can drop the reference.
    return f"silo/{tenant}/{file_id}"
