"""What came out of jobs: step results, fields and outputs, as JSON or CSV, of one job or of all that fit a filter; and as a ZIP file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response, StreamingResponse

from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store.job_search import find
from services.ingest.dialects.v1.jobs import Page
from services.ingest.http.answers.jobs import JobResult, JobResults
from services.ingest.http.archive import entries_of, manifest_of, zip_stream
from services.ingest.http.audit_trail import DOWNLOAD
from services.ingest.http.dependencies import GatewayDep, Reader
from services.ingest.http.errors import ApiError
from services.ingest.http.records import files_of, job_record
from shared import clock
from shared.web.result_table import as_csv, result_of, rows_of

router = APIRouter(prefix="/v1", tags=["Jobs"])
MOST_FILES = 20_000
"""Files that end a page of `GET /v1/results` before its limit of jobs."""
TABLE: dict[str, Any] = {"text/csv": {"schema": {"type": "string"}}}
Format = Annotated[Literal["json", "csv"], Query(description="`csv` has one row per file")]


def _either(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    return {200: {"model": model, "content": TABLE}}


class ResultPage(Page):
    """A filter, the page to return, and its format."""

    format: Literal["json", "csv"] = "json"


async def _files(gateway: Gateway, job: dict[str, Any]) -> list[dict[str, Any]]:
    return [file for file in await files_of(gateway, "job_id", job["id"]) if not file.get("recycled_at")]


async def _result(gateway: Gateway, job: dict[str, Any]) -> dict[str, Any]:
    return result_of(job, await _files(gateway, job))


def _csv(results: list[dict[str, Any]], following: str | None = None) -> Response:
    headers = {"x-next-cursor": following} if following else {}
    return Response(as_csv(rows_of(results)), media_type="text/csv; charset=utf-8; header=present", headers=headers)


@router.get(
    "/jobs/{job_id}/results",
    summary="Results of a job",
    dependencies=[DOWNLOAD],
    responses=_either(JobResult),
    operation_id="getJobResults",
)
async def results(job_id: str, gateway: GatewayDep, who: Reader, format: Format = "json") -> Response:
    """`results` (step → what it returned), `outputs`, and `files` with `fields`, `properties`, `results` and `outputs` each.

    Files that failed are listed with `code` and `message`; recycled ones are left out. Before the job's end the answer holds what is there.
    """
    found = await _result(gateway, await job_record(gateway, job_id, who))
    return _csv([found]) if format == "csv" else JSONResponse(found)


@router.get(
    "/results", summary="Results of many jobs", dependencies=[DOWNLOAD], responses=_either(JobResults), operation_id="getResults"
)
async def all_results(gateway: GatewayDep, who: Reader, query: Annotated[ResultPage, Query()]) -> Response:
    """The results of one page of the jobs that `GET /v1/jobs` finds by the same filter. `next` is the cursor of the next page;
    with `format=csv` it is in the header `X-Next-Cursor`."""
    wanted = query.query(who.tenant_id, clock.unix(), query.cursor)
    jobs, following = await gateway.store.read(lambda c: find(c, wanted, query.limit))
    found: list[dict[str, Any]] = []
    files = 0
    for job in jobs:
        found.append(await _result(gateway, job))
        files += len(found[-1]["files"])
        if files >= MOST_FILES and len(found) < len(jobs):
            _, following = await gateway.store.read(lambda c: find(c, wanted, len(found)))
            break
    return _csv(found, following) if query.format == "csv" else JSONResponse({"result": found, "next": following})


@router.get(
    "/jobs/{job_id}/results.zip",
    summary="Download all results of a job",
    response_class=StreamingResponse,
    dependencies=[DOWNLOAD],
    operation_id="downloadJobResults",
    responses={200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}}},
)
async def archive(job_id: str, gateway: GatewayDep, who: Reader) -> StreamingResponse:
    """A folder per file with `text.txt`, `result.json` and the file's outputs; outputs of the job at the top.

    `manifest.json` holds the job's results and names every file, also those that failed, with the paths of its entries. Recycled files
    are left out. 404 when the job has neither files nor results.
    """
    job = await job_record(gateway, job_id, who)
    files = await _files(gateway, job)
    entries = entries_of(files, job.get("outputs") or ())
    if not (files or entries or job.get("results")):
        raise ApiError(404, f"Job with ID {job_id} has no results.")
    headers = {
        "content-disposition": f'attachment; filename="results-{job["id"][:8]}.zip"',
        "x-content-type-options": "nosniff",
    }
    manifest = manifest_of(result_of(job, files), entries)
    stream = zip_stream(gateway.objects.of(who.tenant_id), entries, {"manifest.json": manifest})
    return StreamingResponse(stream, media_type="application/zip", headers=headers)
