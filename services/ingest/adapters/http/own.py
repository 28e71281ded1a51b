"""Our own additions under /v1: text, results, search, history, keys."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Query, Request
from pydantic import BaseModel, Field
from sqlalchemy import text
from starlette.responses import PlainTextResponse, Response

from contracts import AccessKeyIssued, AccessKeyRevoked, derived
from contracts.topics import ACCESS_EVENTS_TOPIC
from services.ingest.adapters.http.alfred import file_record, files_of, job_record
from services.ingest.adapters.http.context import Admin, DoorDep, Reader
from services.ingest.adapters.http.errors import ApiError
from services.ingest.adapters.http.waiting import until_ended
from services.ingest.adapters.search_index import search as find
from services.ingest.core.waiting import why
from shared import clock
from shared.access import ACCESS, key_hash, new_key

router = APIRouter(prefix="/v1", tags=["Stageline"], max_body_size=1 << 20)


@router.get("/files/{file_id}/text", summary="A file's text", response_class=PlainTextResponse)
async def file_text(file_id: str, door: DoorDep, who: Reader) -> Response:
    """The extracted text; pages are separated by form feeds."""
    record = await file_record(door, file_id, who)
    if not record["text_blob"]:
        reason = record["message"] or f"it is {record['status']}"
        raise ApiError(404, f"File with ID {file_id} has no text: {reason}")
    return PlainTextResponse(await door.objects.get(record["text_blob"]))


@router.get("/files/{file_id}/result", summary="A file's result package")
async def file_result(file_id: str, door: DoorDep, who: Reader) -> Response:
    """Everything found out about the file, as JSON."""
    record = await file_record(door, file_id, who)
    if not record["result_blob"]:
        raise ApiError(404, f"File with ID {file_id} has no result: it is {record['status']}")
    return Response(await door.objects.get(record["result_blob"]), media_type="application/json")


@router.get("/search", summary="Full-text search")
async def search(
    door: DoorDep,
    who: Reader,
    q: Annotated[str, Query(min_length=1, max_length=1000)],
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> dict[str, Any]:
    """Files that hold all the words; `word*` matches beginnings."""
    return {"result": await door.store.read(lambda c: find(c, who.tenant_id, q, limit))}


@router.get("/jobs/{job_id}", summary="A job, its files in full, and why it waits")
async def job(job_id: str, request: Request, response: Response, door: DoorDep, who: Reader) -> dict[str, Any]:
    """As Alfred's job/detail, with whole file records and `waiting`: one reason code with its facts, or null.

    With `Prefer: wait=N` (at most 60 seconds) the answer comes as soon as the job has ended.
    """
    record = await job_record(door, job_id, who)
    record = await until_ended(request, response, door, job_id) or await job_record(door, job_id, who)
    files = await files_of(door, "job_id", job_id)
    return {**record, "files": files, "waiting": why(record, files, clock.unix())}


@router.get("/jobs/{job_id}/history", summary="Everything that happened to a job")
async def history(
    job_id: str,
    door: DoorDep,
    who: Reader,
    after: Annotated[int, Query(ge=0, le=1 << 62)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 500,
) -> dict[str, Any]:
    """The job's and its files' events in order, from cursor `after`; `next` is the cursor of the following page."""
    await job_record(door, job_id, who)
    query = text("SELECT id, body FROM history WHERE job_id = :j AND id > :a ORDER BY id LIMIT :n")
    rows = await door.store.read(lambda c: c.execute(query, {"j": job_id, "a": after, "n": limit}).all())
    return {"result": [json.loads(r.body) for r in rows], "next": rows[-1].id if len(rows) == limit else None}


class NewKey(BaseModel):
    """Whom the key speaks for. Without `tenant_id` it is the caller's own tenant."""

    user_name: str = Field(min_length=1, max_length=200)
    role: Literal["admin", "operator", "producer", "reader"] = "producer"
    tenant_id: str | None = Field(default=None, min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    tenant_name: str | None = Field(default=None, max_length=200)


@router.post("/keys", status_code=201, summary="Issue a key")
async def issue_key(door: DoorDep, who: Admin, body: Annotated[NewKey, Body()]) -> dict[str, str]:
    """The key is in this answer and nowhere else."""
    key = new_key()
    tenant = body.tenant_id or who.tenant_id
    name = body.tenant_name or (who.tenancy.tenant_name if tenant == who.tenant_id else tenant)
    event = AccessKeyIssued(
        event_id=clock.new_root(), key_hash=key_hash(key), tenant_id=tenant, tenant_name=name, user_name=body.user_name,
        role=body.role, prefix=key[:8], occurred_at=clock.now(),
    )  # fmt: skip
    fields = event.model_dump(include={"key_hash", "tenant_id", "tenant_name", "user_name", "role", "prefix"})

    def enter(unit: Any) -> None:
        unit.connection.execute(ACCESS.insert().values(**fields, revoked=False))
        unit.emit(ACCESS_EVENTS_TOPIC.name, event, None)

    await door.settler.run(enter)
    return {"key": key, "key_id": event.key_hash, "tenant_id": tenant, "role": body.role}


@router.delete("/keys/{key_id}", status_code=204, summary="Revoke a key")
async def revoke_key(key_id: str, door: DoorDep, who: Admin) -> None:
    """The key stops working here at once, elsewhere within seconds."""
    query = text("SELECT tenant_id FROM access_key WHERE key_hash = :k")
    tenant = await door.store.read(lambda c: c.execute(query, {"k": key_id}).scalar())
    if tenant is None:
        raise ApiError(404, f"Key with ID {key_id[:80]} does not exist.")
    event = AccessKeyRevoked(event_id=derived(key_id, "revoked"), key_hash=key_id, tenant_id=tenant, occurred_at=clock.now())

    def enter(unit: Any) -> None:
        unit.connection.execute(ACCESS.update().where(ACCESS.c.key_hash == key_id).values(revoked=True))
        unit.emit(ACCESS_EVENTS_TOPIC.name, event, None)

    await door.settler.run(enter)
