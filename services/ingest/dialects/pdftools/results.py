"""The Conversion Service's Advanced API: results (reference/vendor-apis.md §3.1, §3.3)."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import Connection, text

from contracts import JobStage
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.remote_files import RemoteFailed
from services.ingest.dialects.alfred.jobs import files_of
from services.ingest.dialects.pdftools.common import PREFIX, Caller
from services.ingest.dialects.pdftools.jobs import job_of
from services.ingest.dialects.pdftools.options import data_of, result_of
from services.ingest.http.dependencies import GatewayDep
from services.ingest.http.download import send
from services.ingest.http.errors import ApiError
from shared.web.api_keys import Principal

router = APIRouter(prefix=PREFIX, tags=["Conversion Service"])
BLOCKED_S = 3600.0
"""How long a call for a result waits. Clients that cannot are told to look at the job's status instead (§3.1)."""
_BODY = text("SELECT body FROM job_view WHERE id = :i")


async def ended(gateway: Gateway, job_id: str, seconds: float) -> dict[str, Any] | None:
    """The job's record once it has ended; None when that takes longer, or when this process is about to end."""

    def look(connection: Connection) -> dict[str, Any] | None:
        body = connection.execute(_BODY, {"i": job_id}).scalar()
        record: dict[str, Any] | None = json.loads(body) if body else None
        return record if record is not None and JobStage(record["stage"]).terminal else None

    found: dict[str, Any] | None = await gateway.decisions.until(look, seconds, patient=True)
    return found


@router.get("/jobs/{job_id}/result", summary="getJobResult")
async def result(job_id: str, gateway: GatewayDep, who: Caller) -> dict[str, Any]:
    """Blocks until there is one. 409 before the start."""
    row = await job_of(gateway, who, job_id)
    if row.job_id is None:
        raise ApiError(409, "There is no result: the job has not been started.", code="noResult")
    job = await ended(gateway, row.job_id, BLOCKED_S)
    if job is None:
        raise ApiError(503, "The result is not available yet.", code="notAvailable", retry_after_s=1)
    return result_of(job, await files_of(gateway, "job_id", row.job_id))


async def _datum(gateway: Gateway, who: Principal, job_id: str, result_id: str) -> dict[str, Any]:
    row = await job_of(gateway, who, job_id)
    job = await gateway.record("job_view", row.job_id, who.tenant_id) if row.job_id else None
    if job is None or not JobStage(job["stage"]).terminal:
        raise ApiError(409, "The data are not available: call getJobResult first.", code="notAvailable")
    made = data_of(job, await files_of(gateway, "job_id", row.job_id)) if job["stage"] == "completed" else []
    if not result_id.isascii() or not result_id.isdigit() or len(result_id) > 6 or not 0 < int(result_id) <= len(made):
        raise ApiError(404, f"Job '{job_id}' has no result '{result_id[:80]}'.", code="resultNotFound")
    return made[int(result_id) - 1]


@router.get("/jobs/{job_id}/result/{result_id:segment}", summary="getJobResultData", response_class=Response)
async def result_data(job_id: str, result_id: str, request: Request, gateway: GatewayDep, who: Caller) -> Response:
    """The bytes. 409 while there is no result."""
    datum = await _datum(gateway, who, job_id, result_id)
    return await send(request, gateway, datum["blob"], datum["file_name"])


Url = Annotated[str, Query(min_length=1, max_length=2048)]


@router.post("/jobs/{job_id}/result/{result_id}:put", status_code=204, summary="storeJobResultData, by PUT")
async def store_by_put(job_id: str, result_id: str, gateway: GatewayDep, who: Caller, url: Url) -> Response:
    """The service brings the bytes to `url`. 400 when that does not work."""
    return await _store("PUT", job_id, result_id, gateway, who, url)


@router.post("/jobs/{job_id}/result/{result_id}:post", status_code=204, summary="storeJobResultData, by POST")
async def store_by_post(job_id: str, result_id: str, gateway: GatewayDep, who: Caller, url: Url) -> Response:
    """The service brings the bytes to `url`. 400 when that does not work."""
    return await _store("POST", job_id, result_id, gateway, who, url)


async def _store(method: str, job_id: str, result_id: str, gateway: Gateway, who: Principal, url: str) -> Response:
    datum = await _datum(gateway, who, job_id, result_id)
    size, chunks = await gateway.objects.stream_object(datum["blob"])
    try:
        await gateway.remote.store(method, url, size, chunks, "application/octet-stream")
    except RemoteFailed as error:
        raise ApiError(400, f"url: {error}", "url", code="transferFailed") from None
    return Response(status_code=204)
