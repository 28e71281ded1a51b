"""Files in the recycle bin, erased files, and what the read model forgets when a file goes: its text in the index, terms of its job."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from pydantic_core import from_json
from sqlalchemy import Connection, text
from sqlmodel import Field, SQLModel

from contracts import FileErased
from services.ingest.adapters.store import former_files, row_turns
from services.ingest.adapters.store import read_model as rm
from services.ingest.adapters.store.erasures import RETENTION_S, erase_files
from shared.database.statements import Statement, as_list, is_shared

Record = dict[str, Any]
KIND = "recycled"
"""Kind of the turns of these rows."""
MOST_FILES = 1 << 40


class RecycledRow(SQLModel, table=True):
    """A file in the recycle bin, since `at` (Unix seconds)."""

    __tablename__ = "recycled_file"
    file_id: str = Field(primary_key=True)
    tenant_id: str
    job_id: str
    at: float = Field(index=True)
    follows: bool
    """It was erased in a later job of the file, so it is erased in this one too."""


class ErasedFileRow(SQLModel, table=True):
    """Id of an erased file in its job. Its late events are skipped."""

    __tablename__ = "erased_file"
    file_id: str = Field(primary_key=True)
    job_id: str = Field(primary_key=True)
    at: float = Field(index=True)


MODELS: tuple[type[SQLModel], ...] = (RecycledRow, ErasedFileRow)
DUE = row_turns.fair(KIND, "recycled_file", "file_id", "tenant_id", "at", "r.at < :before")
_ERASED = Statement("SELECT job_id, file_id FROM erased_file WHERE file_id IN (SELECT value FROM [ids])")
_ENTER = text(
    "INSERT INTO recycled_file (file_id, tenant_id, job_id, at, follows) VALUES (:f, :t, :j, :at, :follows) ON CONFLICT (file_id) DO UPDATE "
    "SET job_id = excluded.job_id, at = excluded.at, follows = excluded.follows"
)
_LEAVE = Statement("DELETE FROM recycled_file WHERE file_id IN (SELECT value FROM [ids])")
_PENDING = Statement("DELETE FROM index_pending WHERE file_id IN (SELECT value FROM [ids])")
_SEARCH = Statement("DELETE FROM search WHERE file_id IN (SELECT value FROM [ids])")
# By the files' row ids: the full-text table of SQLite has no other index.
_SEARCH_LITE = text("DELETE FROM search WHERE rowid IN (SELECT rowid FROM file_view WHERE id = :f)")
_NOTE = text("INSERT INTO erased_file (file_id, job_id, at) VALUES (:f, :j, :at) ON CONFLICT DO NOTHING")
_OLD = text("DELETE FROM erased_file WHERE at < :old")
_HISTORY = text("SELECT id, body FROM history WHERE job_id = :j AND body LIKE :f ESCAPE '\\'")
_FORGET, _REWRITE = text("DELETE FROM history WHERE id = :i"), text("UPDATE history SET body = :b WHERE id = :i")
_JOB = text("UPDATE job_view SET body = :b WHERE id = :j")
_FILE = text("DELETE FROM file_view WHERE id = :f AND job_id = :j")
_TERMS = text("SELECT term FROM job_term WHERE job_id = :j AND (term LIKE 'file:%' OR term LIKE 'tag:%')")
_TERM = text("DELETE FROM job_term WHERE job_id = :j AND term = :term")
_OF_JOB = Statement(former_files.OF_JOB)


def erased_files(connection: Connection, file_ids: Iterable[str]) -> set[tuple[str, str]]:
    """Pairs of job and file that are erased, of these files."""
    return {(job_id, file_id) for job_id, file_id in _ERASED.rows(connection, {"ids": as_list(file_ids)})}


def save_bin(connection: Connection, files: Mapping[str, Record | None], now: float) -> None:
    """Enter files that were recycled, with their records. None: the file has left the recycle bin."""
    out = [file_id for file_id, record in files.items() if record is None]
    if out:
        _LEAVE.run(connection, {"ids": json.dumps(out)})
    for file_id, record in files.items():
        if record is not None:
            values = {"f": file_id, "t": record["company_id"], "j": record["job_id"], "at": now, "follows": False}
            connection.execute(_ENTER, values)


def leave_search(connection: Connection, file_ids: Collection[str]) -> None:
    """Full-text searches do not find these files any more."""
    ids = {"ids": json.dumps(sorted(file_ids))}
    _PENDING.run(connection, ids)
    if is_shared(connection):
        _SEARCH.run(connection, ids)
    else:
        for file_id in sorted(file_ids):
            connection.execute(_SEARCH_LITE, {"f": file_id})


def refresh_terms(connection: Connection, job_id: str) -> None:
    """Searches find the job no more by names and tags that none of its files has any more."""
    files = [from_json(body) for (body,) in _OF_JOB.rows(connection, {"v": job_id, "n": MOST_FILES})]
    kept = {f"file:{r['file_name'].lower()}" for r in files} | {f"tag:{r['tag_name']}" for r in files}
    for term in connection.execute(_TERMS, {"j": job_id}).scalars().all():
        if term not in kept:
            connection.execute(_TERM, {"j": job_id, "term": term})


def erase_file(connection: Connection, event: FileErased, now: float) -> None:
    """Delete a job's record of a file, and all else of the file unless another job has it. A file that an earlier job had goes back to
    it and follows into the recycle bin, from where it is erased in that job too."""
    job_id, file_id = event.job_id, event.file_id
    values = {"f": file_id, "j": job_id, "at": now}
    connection.execute(_NOTE, values)
    connection.execute(_OLD, {"old": now - RETENTION_S})
    record = rm.records(connection, "file_view", [file_id]).get(file_id)
    if record is not None and record["company_id"] != event.tenant_id:
        return
    former_files.drop(connection, job_id, file_id)
    if record is not None and record["job_id"] == job_id:
        _LEAVE.run(connection, {"ids": as_list([file_id])})
        leave_search(connection, [file_id])
        earlier = former_files.go_back(connection, job_id, file_id)
        if earlier is not None:
            back = {"f": file_id, "t": event.tenant_id, "j": earlier, "at": 0.0, "follows": True}
            connection.execute(_ENTER, back)
        else:
            connection.execute(_FILE, values)
            erase_files(connection, event.tenant_id, [file_id], event.blobs, now)
    for told in (job_id, *event.former_job_ids):
        _forget_upload(connection, told, file_id)
    refresh_terms(connection, job_id)


def _forget_upload(connection: Connection, job_id: str, file_id: str) -> None:
    """Delete a job's events that name a file. The job's first event and its record stay, without the file among the uploads."""
    named = {"j": job_id, "f": f"%{_literal(json.dumps(file_id, ensure_ascii=False))}%"}
    for row in connection.execute(_HISTORY, named).all():
        told = json.loads(row.body)
        uploads = told["event"].get("uploaded_ids") or []
        if file_id not in uploads:
            connection.execute(_FORGET, {"i": row.id})
            continue
        told["event"]["uploaded_ids"] = [i for i in uploads if i != file_id]
        connection.execute(_REWRITE, {"i": row.id, "b": json.dumps(told, ensure_ascii=False)})
    job = rm.records(connection, "job_view", [job_id]).get(job_id)
    if job is not None and file_id in (job.get("uploaded_ids") or []):
        kept = [i for i in job["uploaded_ids"] if i != file_id]
        connection.execute(_JOB, {"j": job_id, "b": json.dumps({**job, "uploaded_ids": kept}, ensure_ascii=False)})


def _literal(words: str) -> str:
    return words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def rows_due(connection: Connection, before: float, now: float, limit: int = 100) -> Sequence[Any]:
    """Files that came into the recycle bin before a time, as far as their turn has come. Times in Unix seconds."""
    return connection.execute(DUE, {"before": before, "now": now, "n": limit}).all()
