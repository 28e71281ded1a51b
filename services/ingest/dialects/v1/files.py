"""Jobs and files in full, under /v1: text, results, outputs, search, history."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from sqlalchemy import text
from starlette.responses import PlainTextResponse, Response

from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store.search_index import search as find
from services.ingest.core.waiting import why
from services.ingest.http.answers.jobs import History, ResultPackage, SearchHits
from services.ingest.http.answers.records import JobDetail
from services.ingest.http.audit_trail import DOWNLOAD
from services.ingest.http.dependencies import GatewayDep, Reader
from services.ingest.http.download import send
from services.ingest.http.errors import ApiError
from services.ingest.http.prefer_wait import place_to_wait, preferred_wait, wait_if_preferred
from services.ingest.http.records import file_record, files_of, job_record
from shared import clock
from shared.web.api_keys import Principal
from shared.web.openapi import WAITING, answered

OutputNumber = Annotated[int, Path(ge=1, le=1000)]
router = APIRouter(prefix="/v1", max_body_size=1 << 20)


@router.get(
    "/files/{file_id}/text",
    summary="A file's text",
    response_class=PlainTextResponse,
    dependencies=[DOWNLOAD],
    operation_id="getFileText",
    tags=["Files"],
)
async def file_text(file_id: str, gateway: GatewayDep, who: Reader) -> Response:
    """The extracted text. Form feeds separate pages."""
    record = await file_record(gateway, file_id, who)
    if not record["text_blob"]:
        reason = record["message"] or f"it is {record['status']}"
        raise ApiError(404, f"File with ID {file_id} has no text: {reason}")
    return PlainTextResponse(await gateway.objects.of(who.tenant_id).get_object(record["text_blob"]))


@router.get(
    "/files/{file_id}/result",
    summary="A file's result package",
    dependencies=[DOWNLOAD],
    operation_id="getFileResult",
    tags=["Files"],
    responses=answered(ResultPackage),
)
async def file_result(file_id: str, gateway: GatewayDep, who: Reader) -> Response:
    """All findings on the file, as JSON."""
    record = await file_record(gateway, file_id, who)
    if not record["result_blob"]:
        raise ApiError(404, f"File with ID {file_id} has no result: it is {record['status']}")
    return Response(await gateway.objects.of(who.tenant_id).get_object(record["result_blob"]), media_type="application/json")


@router.get(
    "/files/{file_id}/outputs/{number}",
    summary="Download an output of a file",
    response_class=Response,
    dependencies=[DOWNLOAD],
    operation_id="downloadFileOutput",
    tags=["Files"],
)
async def file_output(file_id: str, number: OutputNumber, request: Request, gateway: GatewayDep, who: Reader) -> Response:
    """`number` is the position in the file's `outputs`, from 1."""
    return await _output(request, gateway, who, await file_record(gateway, file_id, who), number)


@router.get(
    "/jobs/{job_id}/outputs/{number}",
    summary="Download an output of a job",
    response_class=Response,
    dependencies=[DOWNLOAD],
    operation_id="downloadJobOutput",
    tags=["Jobs"],
)
async def job_output(job_id: str, number: OutputNumber, request: Request, gateway: GatewayDep, who: Reader) -> Response:
    """`number` is the position in the job's `outputs`, from 1."""
    return await _output(request, gateway, who, await job_record(gateway, job_id, who), number)


async def _output(request: Request, gateway: Gateway, who: Principal, record: dict[str, Any], number: int) -> Response:
    made = record.get("outputs") or []
    if number > len(made):
        raise ApiError(404, f"{record['id']} has {len(made)} outputs.")
    output = made[number - 1]
    objects = gateway.objects.of(who.tenant_id)
    return await send(request, objects, output["blob_name"], output["file_name"], output.get("content_type"))


@router.get("/search", summary="Full-text search", operation_id="searchText", tags=["Files"], responses=answered(SearchHits))
async def search(
    gateway: GatewayDep,
    who: Reader,
    q: Annotated[str, Query(min_length=1, max_length=1000)],
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> dict[str, Any]:
    """Files that contain all words; `word*` matches words that begin so."""
    return {"result": await gateway.store.read(lambda c: find(c, who.tenant_id, q, limit))}


@router.get(
    "/jobs/{job_id}",
    summary="A job, its files in full, and why it waits",
    operation_id="getJob",
    tags=["Jobs"],
    responses=answered(JobDetail),
    openapi_extra=WAITING,
)
async def job(job_id: str, request: Request, response: Response, gateway: GatewayDep, who: Reader) -> dict[str, Any]:
    """The job's record with whole file records, and `waiting`: one reason code with its facts, or null.

    With `Prefer: wait=N` (at most 60 seconds) the answer comes as soon as the job has ended.
    """
    record = await job_record(gateway, job_id, who)
    if seconds := preferred_wait(request):
        with place_to_wait(gateway, who, seconds):
            await wait_if_preferred(request, response, gateway, job_id)
        record = await job_record(gateway, job_id, who)
    files = await files_of(gateway, "job_id", job_id)
    return {**record, "files": files, "waiting": why(record, files, clock.unix())}


@router.get(
    "/jobs/{job_id}/history", summary="History of a job", operation_id="getJobHistory", tags=["Jobs"], responses=answered(History)
)
async def history(
    job_id: str,
    gateway: GatewayDep,
    who: Reader,
    after: Annotated[int, Query(ge=0, le=1 << 62)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 500,
) -> dict[str, Any]:
    """Events of the job and its files in order, after the cursor `after`. `next` is the cursor of the next page."""
    await job_record(gateway, job_id, who)
    query = text("SELECT id, body FROM history WHERE job_id = :j AND id > :a ORDER BY id LIMIT :n")
    rows = await gateway.store.read(lambda c: c.execute(query, {"j": job_id, "a": after, "n": limit}).all())
    return {"result": [json.loads(r.body) for r in rows], "next": rows[-1].id if len(rows) == limit else None}
