"""Erases jobs from the read model, and counts which objects are still needed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Index, text
from sqlmodel import Field, SQLModel

from contracts import JobErased, derived
from shared.database.bulk_statements import BulkStatement
from shared.database.statements import Statement, as_list, is_shared

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
    """An object of an erased job, to be deleted unless a file needs it."""

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
_OF_JOB = [text(f"DELETE FROM {t} WHERE job_id = :j") for t in ("history", "job_term", "file_view", "held_end", "early_end")] + [
    text("DELETE FROM job_view WHERE id = :j"),
    text("DELETE FROM silo_job WHERE job_id = :j"),
    text("DELETE FROM conversion_job WHERE job_id = :j"),
    text("DELETE FROM conversion_outlet WHERE job_id = :j"),
]
_OF_FILES = [
    Statement(f"DELETE FROM {t} WHERE file_id IN (SELECT value FROM [ids])") for t in ("index_pending", "blob_ref", "share_link")
]
_SEARCH = Statement("DELETE FROM search WHERE file_id IN (SELECT value FROM [ids])")
_SEARCH_LITE = text("DELETE FROM search WHERE rowid IN (SELECT rowid FROM file_view WHERE job_id = :j)")
_THEIR_BLOBS = Statement("SELECT DISTINCT blob FROM blob_ref WHERE file_id IN (SELECT value FROM [ids])")
_REF = BulkStatement(
    "INSERT INTO blob_ref (blob, file_id) VALUES (:blob, :file_id) ON CONFLICT DO NOTHING",
    "INSERT INTO blob_ref (blob, file_id) SELECT * FROM unnest(CAST(:blob AS text[]), CAST(:file_id AS text[])) "
    "ON CONFLICT DO NOTHING",
)
_DOOM = BulkStatement(
    "INSERT INTO blob_doomed (blob) VALUES (:blob) ON CONFLICT DO NOTHING",
    "INSERT INTO blob_doomed (blob) SELECT * FROM unnest(CAST(:blob AS text[])) ON CONFLICT DO NOTHING",
)


def erased(connection: Connection, job_ids: Iterable[str]) -> set[str]:
    """Those of `job_ids` that are erased."""
    return set(_ERASED.run(connection, {"ids": as_list(job_ids)}).scalars().all())


def save_refs(connection: Connection, records: Iterable[dict[str, Any]]) -> None:
    """Record which objects files and job outputs need."""
    rows = []
    for record in records:
        rows += [{"blob": record[name], "file_id": record["id"]} for name in BLOBS if record.get(name)]
        rows += [{"blob": output["blob_name"], "file_id": record["id"]} for output in record.get("outputs") or ()]
    _REF.run(connection, rows)


def add_refs(connection: Connection, file_id: str, blobs: Iterable[str]) -> None:
    """Record that `file_id`, which is no file of a job, needs objects: they outlive jobs with the same content."""
    _REF.run(connection, [{"blob": blob, "file_id": file_id} for blob in blobs])


def erase_job(connection: Connection, event: JobErased, now: float) -> None:
    """Delete everything of the job. `RetentionSweeper` deletes its objects, unless another file needs them."""
    connection.execute(_FORGET, {"j": event.job_id, "at": now})
    connection.execute(text("DELETE FROM erased WHERE at < :old"), {"old": now - RETENTION_S})
    ids = {"ids": json.dumps([event.job_id, *connection.execute(_FILES, {"j": event.job_id}).scalars()])}
    doomed = {*event.blobs, *_THEIR_BLOBS.run(connection, ids).scalars()}
    _DOOM.run(connection, [{"blob": blob} for blob in sorted(doomed)])
    if is_shared(connection):
        _SEARCH.run(connection, ids)
    else:
        # By the files' row ids: the full-text table has no other index.
        connection.execute(_SEARCH_LITE, {"j": event.job_id})
    for by_file in _OF_FILES:
        by_file.run(connection, ids)
    connection.execute(text("DELETE FROM upload WHERE session_id = :s AND state = 'done'"), {"s": event.session_id or ""})
    # The entry made of data that came with the job. An entry that existed before stays.
    connection.execute(text("DELETE FROM silo_entry WHERE id = :e"), {"e": derived(event.job_id, "entry")})
    for statement in _OF_JOB:
        connection.execute(statement, {"j": event.job_id})
    if event.session_id is not None:
        connection.execute(text("DELETE FROM session_view WHERE id = :s"), {"s": event.session_id})
