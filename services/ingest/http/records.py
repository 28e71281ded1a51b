"""Reads of the read model that routes share: one record of the caller's tenant, the files of a job, a job that has ended."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, text

from contracts import CreateJob, JobStage
from services.ingest.adapters.gateway import Gateway
from services.ingest.http.errors import ApiError
from shared.web.api_keys import Principal

Record = dict[str, Any]
_JOB = text("SELECT body FROM job_view WHERE id = :i")
_OWN_JOB = text("SELECT 1 FROM job_view WHERE id = :i AND tenant_id = :t")
_DECISION = text("SELECT 1 FROM decision WHERE command_id = :c")
_ERASED = text("SELECT 1 FROM erased WHERE job_id = :j")


async def job_record(gateway: Gateway, job_id: str, who: Principal) -> Record:
    """A job's record. Raises 404."""
    job = await gateway.record("job_view", job_id, who.tenant_id)
    if job is None:
        raise ApiError(404, f"Job with ID {job_id} does not exist.")
    return job


async def file_record(gateway: Gateway, file_id: str, who: Principal) -> Record:
    """A file's record. Raises 404."""
    record = await gateway.record("file_view", file_id, who.tenant_id)
    if record is None:
        raise ApiError(404, f"File with ID {file_id} does not exist.")
    return record


async def files_of(gateway: Gateway, column: str, value: str) -> list[Record]:
    """File records of a session or job, in the order they arrived. `column` is `session_id` or `job_id`."""
    assert column in ("session_id", "job_id")
    query = text(f"SELECT body FROM file_view WHERE {column} = :v ORDER BY created_at, id")
    rows = await gateway.store.read(lambda c: c.execute(query, {"v": value}).scalars().all())
    return [json.loads(body) for body in rows]


async def ended_job(gateway: Gateway, job_id: str, timeout_s: float) -> Record | None:
    """The job's record once the job has ended; None after `timeout_s`, or when this process shuts down."""

    def look(connection: Connection) -> Record | None:
        body = connection.execute(_JOB, {"i": job_id}).scalar()
        record: Record | None = json.loads(body) if body else None
        return record if record is not None and JobStage(record["stage"]).terminal else None

    return await gateway.decisions.wait_until(look, timeout_s, patient=True)


async def is_refused(gateway: Gateway, who: Principal, command: CreateJob, what: str) -> bool:
    """Wait until a new job is in the read model. True when its id belongs to another job. Raises 503 after a timeout."""

    def look(connection: Connection) -> bool | None:
        if connection.execute(_OWN_JOB, {"i": command.job_id, "t": who.tenant_id}).first():
            return False
        return True if connection.execute(_DECISION, {"c": command.command_id}).first() else None

    refused = await gateway.decisions.wait_until(look, gateway.settings.decision_timeout_s)
    if refused is None:
        raise ApiError(503, f"{what} was taken but does not show yet. Repeating the request is safe.", retry_after_s=5)
    return refused


async def require_not_erased(gateway: Gateway, job_id: str) -> None:
    """Raises 409 for an erased job: its id cannot be used again."""
    if await gateway.store.read(lambda c: c.execute(_ERASED, {"j": job_id}).first()) is not None:
        raise ApiError(409, f"job_id: job {job_id} was erased; its id cannot be used again", "job_id")
