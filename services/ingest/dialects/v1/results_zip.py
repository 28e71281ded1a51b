"""All results of a job as one ZIP file, built while it is sent."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import StreamingResponse

from services.ingest.http.archive import entries_of, zip_stream
from services.ingest.http.dependencies import GatewayDep, Reader
from services.ingest.http.errors import ApiError
from services.ingest.http.records import files_of, job_record

router = APIRouter(prefix="/v1", tags=["Jobs"])


@router.get("/jobs/{job_id}/results.zip", summary="Download all results of a job", response_class=StreamingResponse)
async def results(job_id: str, gateway: GatewayDep, who: Reader) -> StreamingResponse:
    """A folder per file with `text.txt`, `result.json` and the file's outputs; outputs of the job at the top. 404 when there are
    none."""
    job = await job_record(gateway, job_id, who)
    entries = entries_of(await files_of(gateway, "job_id", job_id), job.get("outputs") or ())
    if not entries:
        raise ApiError(404, f"Job with ID {job_id} has no results.")
    headers = {
        "content-disposition": f'attachment; filename="results-{job["id"][:8]}.zip"',
        "x-content-type-options": "nosniff",
    }
    return StreamingResponse(zip_stream(gateway, entries), media_type="application/zip", headers=headers)
