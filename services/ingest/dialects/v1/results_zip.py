"""All results of a job as one ZIP file, made while it is sent: nothing of it is held or kept."""

from __future__ import annotations

import zipfile
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import APIRouter
from starlette.responses import StreamingResponse

from services.ingest.adapters.gateway import Gateway
from services.ingest.dialects.alfred.jobs import files_of, job_record
from services.ingest.http.dependencies import GatewayDep, Reader
from services.ingest.http.errors import ApiError
from services.ingest.http.multipart import clean_name
from shared.objects.object_store import ObjectMissing

router = APIRouter(prefix="/v1", tags=["Jobs"])
PARTS = (("text_blob", "text.txt"), ("result_blob", "result.json"))


class _Out:
    """What a ZipFile writes, until it is taken."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []

    def write(self, data: bytes) -> int:
        self.chunks.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def take(self) -> bytes:
        data, self.chunks = b"".join(self.chunks), []
        return data


@router.get("/jobs/{job_id}/results.zip", summary="All results of a job", response_class=StreamingResponse)
async def results(job_id: str, gateway: GatewayDep, who: Reader) -> StreamingResponse:
    """A folder per file, named after it, with `text.txt`, `result.json` and what was made of it; what was made of all lies beside. 404 while there is none."""
    job = await job_record(gateway, job_id, who)
    entries = entries_of(await files_of(gateway, "job_id", job_id), job.get("outputs") or ())
    if not entries:
        raise ApiError(404, f"Job with ID {job_id} has no results.")
    headers = {
        "content-disposition": f'attachment; filename="results-{job["id"][:8]}.zip"',
        "x-content-type-options": "nosniff",
    }
    return StreamingResponse(archive(gateway, entries), media_type="application/zip", headers=headers)


def entries_of(files: Sequence[dict[str, Any]], of_job: Sequence[dict[str, Any]] = ()) -> list[tuple[str, str]]:
    """(path, object) of everything; equal names get the file's id behind them. What the whole job made lies beside the folders."""
    found = [(f"{n + 1}-{clean_name(output['file_name'])}", output["blob_name"]) for n, output in enumerate(of_job)]
    taken = {path.casefold() for path, _ in found}
    for record in files:
        # Whoever publishes to the topics names files as they like; nobody who unpacks this shall write elsewhere.
        folder = clean_name(record["file_name"]).strip(". ") or record["id"]
        if folder.casefold() in taken:
            folder = f"{folder}-{record['id']}"
        taken.add(folder.casefold())
        found += [(f"{folder}/{name}", record[blob]) for blob, name in PARTS if record[blob]]
        made = enumerate(record.get("outputs") or ())
        found += [(f"{folder}/{n + 1}-{clean_name(output['file_name'])}", output["blob_name"]) for n, output in made]
    return found


async def archive(gateway: Gateway, entries: Sequence[tuple[str, str]]) -> AsyncIterator[bytes]:
    """The archive's bytes. What has been erased meanwhile is left out."""
    out = _Out()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as target:  # type: ignore[call-overload]
        for path, blob in entries:
            try:
                _, chunks = await gateway.objects.stream_object(blob)
            except ObjectMissing:
                continue
            with target.open(zipfile.ZipInfo(path), "w", force_zip64=True) as entry:
                async for chunk in chunks:
                    entry.write(chunk)
                    yield out.take()
    yield out.take()
