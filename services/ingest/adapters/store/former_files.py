"""Files of jobs that were run again: a file belongs to its newest job, and each earlier job keeps its record of the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import from_json, to_json
from sqlalchemy import Connection, text
from sqlmodel import Field, SQLModel

from shared.database.statements import Statement

Record = dict[str, Any]


class FormerFileRow(SQLModel, table=True):
    """A file as it was in a job, before a later job took it."""

    __tablename__ = "former_file"
    job_id: str = Field(primary_key=True)
    file_id: str = Field(primary_key=True, index=True)
    tenant_id: str
    created_at: float
    moved_at: float
    body: str


MODELS: tuple[type[SQLModel], ...] = (FormerFileRow,)
OF_JOB = (
    "SELECT body FROM (SELECT id, created_at, body FROM file_view WHERE job_id = :v UNION ALL "
    "SELECT file_id, created_at, body FROM former_file WHERE job_id = :v AND NOT EXISTS "
    "(SELECT 1 FROM file_view own WHERE own.id = former_file.file_id AND own.job_id = :v)) kept ORDER BY created_at, id LIMIT :n"
)
"""SQL of the records of a job's files in the order they arrived, one of each file: of the job `v`, at most `n`."""
_LOAD = text("SELECT body FROM former_file WHERE job_id = :j AND file_id = :f")
# A file that came in the same batch has no row yet: its time is the batch's.
_SAVE = text(
    "INSERT INTO former_file (job_id, file_id, tenant_id, created_at, moved_at, body) VALUES (:j, CAST(:f AS text), :t, "
    "coalesce((SELECT created_at FROM file_view WHERE id = CAST(:f AS text)), CAST(:created AS double precision)), :at, :body) "
    "ON CONFLICT (job_id, file_id) DO UPDATE SET body = excluded.body"
)
_NEWEST = Statement(
    "SELECT job_id, file_id, body FROM former_file f WHERE file_id IN (SELECT value FROM [ids]) AND job_id <> :j AND moved_at = "
    "(SELECT max(moved_at) FROM former_file n WHERE n.file_id = f.file_id AND n.job_id <> :j) ORDER BY job_id"
)
_BACK = text("UPDATE file_view SET job_id = :j, body = :body WHERE id = :f")
_DELETE = text("DELETE FROM former_file WHERE job_id = :j AND file_id = :f")
_DELETE_JOB = text("DELETE FROM former_file WHERE job_id = :j")


def load(connection: Connection, job_id: str, file_id: str) -> Record | None:
    """The job's record of a file that has a newer job; None if there is none."""
    body = connection.execute(_LOAD, {"j": job_id, "f": file_id}).scalar()
    return from_json(body) if body is not None else None


def save(connection: Connection, records: Mapping[tuple[str, str], Record], created: Mapping[str, float], now: float) -> None:
    """Write records by job and file. `created` has the time of each file, for those without a row; times in Unix seconds."""
    for (job_id, file_id), record in records.items():
        values = {"j": job_id, "f": file_id, "t": record["company_id"], "created": created[file_id], "at": now}
        connection.execute(_SAVE, {**values, "body": to_json(record).decode()})


def drop(connection: Connection, job_id: str, file_id: str) -> None:
    """Delete a job's record of a file that has a newer job."""
    connection.execute(_DELETE, {"j": job_id, "f": file_id})


def go_back(connection: Connection, job_id: str, file_id: str) -> str | None:
    """Give a file back to the job before `job_id`; returns that job, None if there is none."""
    row = _NEWEST.run(connection, {"ids": to_json([file_id]).decode(), "j": job_id}).first()
    if row is None:
        return None
    connection.execute(_BACK, {"j": row.job_id, "f": file_id, "body": row.body})
    drop(connection, row.job_id, file_id)
    return str(row.job_id)


def leave(connection: Connection, job_id: str, file_ids: Sequence[str]) -> list[str]:
    """Delete a job's records of files. Files whose newest job it is go back to the job before; returns those that stay in none."""
    connection.execute(_DELETE_JOB, {"j": job_id})
    stay = dict.fromkeys(file_ids)
    for r in _NEWEST.run(connection, {"ids": to_json(list(file_ids)).decode(), "j": job_id}).all() if file_ids else ():
        if r.file_id in stay:
            del stay[r.file_id]
            connection.execute(_BACK, {"j": r.job_id, "f": r.file_id, "body": r.body})
            connection.execute(_DELETE, {"j": r.job_id, "f": r.file_id})
    return list(stay)
