"""The Conversion Service's Advanced API: results (reference/vendor-apis.md §3.1, §3.3)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from contracts import JobStage
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.remote_files import RemoteFailed
from services.ingest.dialects.pdftools.common import PREFIX, Caller
from services.ingest.dialects.pdftools.jobs import job_of
from services.ingest.dialects.pdftools.options import data_of, result_of
from services.ingest.http.audit_trail import DOWNLOAD
from services.ingest.http.dependencies import GatewayDep
from services.ingest.http.download import send
from services.ingest.http.errors import ApiError
from services.ingest.http.prefer_wait import place_to_wait
from services.ingest.http.records import ended_job, files_of
from shared.web.api_keys import Principal

router = APIRouter(prefix=PREFIX, tags=["Conversion Service"])
MAX_WAIT_S = 3600.0
"""Longest wait of `getJobResult`. Clients that cannot wait as long should poll the job's status (§3.1)."""


@router.get("/jobs/{job_id}/result", summary="getJobResult")
async def result(job_id: str, request: Request, gateway: GatewayDep, who: Caller) -> dict[str, Any]:
    """Waits until the job has ended. 409 before the start, 429 when too many requests wait."""
    row = await job_of(gateway, who, job_id)
    if row.job_id is None:
        raise ApiError(409, "There is no result: the job has not been started.", code="noResult")
    with place_to_wait(gateway, who, MAX_WAIT_S):
        job = await ended_job(request, gateway, row.job_id, MAX_WAIT_S)
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


@router.get(
    "/jobs/{job_id}/result/{result_id:segment}", summary="getJobResultData", response_class=Response, dependencies=[DOWNLOAD]
)
async def result_data(job_id: str, result_id: str, request: Request, gateway: GatewayDep, who: Caller) -> Response:
    """The data's bytes. 409 while there is no result."""
    datum = await _datum(gateway, who, job_id, result_id)
    return await send(request, gateway.objects.of(who.tenant_id), datum["blob"], datum["file_name"])


Url = Annotated[str, Query(min_length=1, max_length=2048)]


@router.post("/jobs/{job_id}/result/{result_id:segment}:put", status_code=204, summary="storeJobResultData, by PUT")
async def store_by_put(job_id: str, result_id: str, gateway: GatewayDep, who: Caller, url: Url) -> Response:
    """The service sends the bytes to `url` by PUT. 400 when the transfer fails."""
    return await _store("PUT", job_id, result_id, gateway, who, url)


@router.post("/jobs/{job_id}/result/{result_id:segment}:post", status_code=204, summary="storeJobResultData, by POST")
async def store_by_post(job_id: str, result_id: str, gateway: GatewayDep, who: Caller, url: Url) -> Response:
    """The service sends the bytes to `url` by POST. 400 when the transfer fails."""
    return await _store("POST", job_id, result_id, gateway, who, url)


@router.post("/jobs/{job_id}/result/{result_id:segment}:{method:segment}", status_code=204, include_in_schema=False)
async def store_otherwise(job_id: str, result_id: str, method: str, gateway: GatewayDep, who: Caller, url: Url) -> Response:
    """`put` and `post` in any case; 400 for another method."""
    if method.upper() not in ("PUT", "POST"):
        raise ApiError(400, f"storeMethod: put or post is expected, not {method[:20]!r}", "storeMethod", code="invalidMethod")
    return await _store(method.upper(), job_id, result_id, gateway, who, url)


async def _store(method: str, job_id: str, result_id: str, gateway: Gateway, who: Principal, url: str) -> Response:
    datum = await _datum(gateway, who, job_id, result_id)
    size, chunks = await gateway.objects.of(who.tenant_id).stream_object(datum["blob"])
    try:
        await gateway.remote.store(method, url, size, chunks, "application/octet-stream")
    except RemoteFailed as error:
        raise ApiError(400, f"url: {error}", "url", code="transferFailed") from None
    return Response(status_code=204)
