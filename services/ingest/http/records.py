"""Reads of the read model that routes share: one record of the caller's tenant, the files of a job, a job that has ended."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from pydantic_core import from_json

from contracts import JobStage
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store import former_files
from services.ingest.adapters.store import read_model as rm
from services.ingest.http.errors import ApiError
from shared.database.statements import Statement
from shared.web.api_keys import Principal

Record = dict[str, Any]
FEW = 100
"""Files that are read in the event loop. More of them would hold up other requests, and are read beside it."""
MOST = 1 << 40
FILES = {
    "session_id": Statement("SELECT body FROM file_view WHERE session_id = :v ORDER BY created_at, id LIMIT :n"),
    "job_id": Statement(former_files.OF_JOB),
}
"""Queries for the files of a session or job, in the order they arrived."""


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
    query = FILES[column]
    rows = await gateway.store.look_up(lambda c: query.rows(c, {"v": value, "n": FEW + 1}))
    if len(rows) > FEW:
        rows = await gateway.store.read(lambda c: query.rows(c, {"v": value, "n": MOST}))
    return [from_json(body) for (body,) in rows]


async def ended_job(request: Request, gateway: Gateway, job_id: str, timeout_s: float) -> Record | None:
    """The job's record once the job has ended; None after `timeout_s`, when the caller has left, or when this process shuts down."""

    def ended(record: Record | None) -> Record | None:
        return record if record is not None and JobStage(record["stage"]).terminal else None

    found = ended((await gateway.store.look_up(lambda c: rm.records(c, "job_view", [job_id]))).get(job_id))
    if found is not None:
        return found
    wait = gateway.decisions.wait("end")
    wait.on_job(job_id, ended)
    with wait:
        later: Record | None = await wait.result(timeout_s, patient=True, gone=request.is_disconnected)
    return later
