"""Invopop's dialect: jobs (reference/vendor-apis.md §2.3). A job runs a workflow on an entry of the silo."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request, Response
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator
from sqlalchemy import Connection

from contracts import CreateJob, FileRef, JobRequest, PokeJob, RetryJobNow, derived
from contracts.loose import check_json
from services.ingest.adapters.admission import Admission, admit
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store.job_search import find
from services.ingest.adapters.store.reservations import Place, job_place
from services.ingest.core.job_filter import JobQuery, decode_cursor
from services.ingest.core.workflow_readers import PRIVATE
from services.ingest.dialects.invopop import store
from services.ingest.dialects.invopop.ids import JobId, Reference, canonical
from services.ingest.dialects.invopop.intents import intent_id
from services.ingest.dialects.invopop.job_view import job_body
from services.ingest.dialects.invopop.silo import new_entry
from services.ingest.dialects.invopop.times import moment
from services.ingest.http.commands import create_job, require_not_erased, send_command
from services.ingest.http.dependencies import GatewayDep, Operator, Reader, Writer
from services.ingest.http.errors import ApiError, Unprocessable
from services.ingest.http.parameters import opened_arguments, published_definition
from services.ingest.http.prefer_wait import place_to_wait
from services.ingest.http.records import ended_job
from shared import clock
from shared.web.api_keys import Principal

router = APIRouter(prefix="/transform/v1", tags=["Invopop"], max_body_size=2 << 20)
MAX_WAIT_S = 60


def _none(value: Any) -> Any:
    return [] if value is None else value


class InvopopJob(BaseModel):
    """`workflow_id`, and one of `silo_entry_id`, `data` and `args`, in this order of priority. `meta` is the name of `args` in
    2025."""

    model_config = ConfigDict(extra="ignore")

    workflow_id: Reference
    silo_entry_id: Annotated[str, AfterValidator(canonical)] | None = Field(default=None, max_length=200)
    data: dict[str, Any] | None = None
    args: dict[str, str] | None = Field(default=None, max_length=100)
    meta: dict[str, Any] | None = Field(default=None, max_length=100)
    key: str | None = Field(default=None, min_length=1, max_length=200)
    tags: Annotated[list[Annotated[str, Field(max_length=100)]], BeforeValidator(_none)] = Field(
        default_factory=list, max_length=50
    )

    @field_validator("data", "meta", "args")
    @classmethod
    def _is_json(cls, value: Any) -> Any:
        check_json(value)
        return value


class Event(BaseModel):
    """An event for the intent `id` of the job `job_id`."""

    model_config = ConfigDict(extra="ignore")

    id: Annotated[str, AfterValidator(canonical)] | None = Field(default=None, max_length=200)
    job_id: Annotated[str, AfterValidator(canonical)] | None = Field(default=None, max_length=200)
    ref: str | None = Field(default=None, max_length=200)
    status: str = Field(max_length=10)
    code: str | None = Field(default=None, max_length=100)
    message: str | None = Field(default=None, max_length=1000)


Wait = Annotated[int, Query(ge=0, le=86_400, description="Seconds to wait for the job's end, at most 60")]


@router.put("/jobs/{job_id}", summary="Create a job under your own id", status_code=202)
async def put_job(
    job_id: JobId,
    request: Request,
    response: Response,
    gateway: GatewayDep,
    who: Writer,
    body: Annotated[InvopopJob, Body()],
    wait: Wait = 0,
) -> dict[str, Any]:
    """The id is a UUID of version 1 or 7. Repeating the call with the same body returns the job (200); another body is 409."""
    try:
        parsed = uuid.UUID(job_id)
    except ValueError:
        parsed = None
    if parsed is None or parsed.version not in (1, 7) or job_id != str(parsed):
        raise Unprocessable({"id": "must be a UUID of version 1 or 7"})
    return await _create(request, response, gateway, who, body, job_id, wait)


@router.post("/jobs", summary="Create a job", status_code=202)
async def post_job(
    request: Request, response: Response, gateway: GatewayDep, who: Writer, body: Annotated[InvopopJob, Body()], wait: Wait = 0
) -> dict[str, Any]:
    """With a `key`, repeating the call with the same body returns the first job (200); another body is 409. Without a key each
    call makes a job."""
    return await _create(request, response, gateway, who, body, None, wait)


async def _create(
    request: Request, response: Response, gateway: Gateway, who: Principal, body: InvopopJob, job_id: str | None, wait: int
) -> dict[str, Any]:
    with place_to_wait(gateway, who, wait):
        found = await _submit(request, response, gateway, who, body, job_id)
        await _wait(request, gateway, found.job_id, wait)
        return await job_body(gateway, who, found.job_id)


async def _submit(
    request: Request, response: Response, gateway: Gateway, who: Principal, body: InvopopJob, job_id: str | None
) -> Any:
    """Create the job, or find it. Returns the row of the request for it."""
    fingerprint = derived(body.model_dump_json(), "fingerprint")
    wanted = job_id or (derived(who.tenant_id, body.key, "transform-job") if body.key else clock.new_root())
    known = await gateway.store.read(lambda c: _known(c, who.tenant_id, wanted, body.key))
    made_id = known.job_id if known is not None else wanted
    workflow = await resolve(gateway, who, body.workflow_id)
    requested = {**body.model_dump(exclude={"data"}), "edition": "meta" if body.meta is not None else "args"}
    await require_not_erased(gateway, made_id)
    work = await _work(gateway, who, body, made_id)
    places = [job_place(made_id), Place(derived(made_id, "envelope"), files=1, bytes=work.size)]
    async with admit(gateway, who.tenant_id, places) as admission:
        row = known or await gateway.store.transact(
            lambda c: store.save_request(c, who.tenant_id, wanted, body.key, fingerprint, requested, clock.unix())
        )
        if row.fingerprint != fingerprint or (job_id is not None and row.job_id != job_id):
            field = "id" if row.job_id == job_id else "key"
            raise ApiError(409, f"{field}: used by another job", field, code="conflict")
        command = await _command(gateway, who, admission, body, row.job_id, workflow, work)
        repeatable = job_id is not None or body.key is not None
        if await create_job(request, gateway, command, "The job", repeatable, admission) is None:
            raise ApiError(409, "id: used by another job", "id", code="conflict")
        admission.accept(command.files[0].file_id)
    # A repeated request answers 200, and so does the edition of early 2025.
    response.status_code = 200 if known is not None or body.meta is not None else 202
    return row


async def _wait(request: Request, gateway: Gateway, job_id: str, seconds: int) -> None:
    if seconds:
        await ended_job(request, gateway, job_id, min(seconds, MAX_WAIT_S))


def _known(connection: Connection, tenant: str, job_id: str, key: str | None) -> Any:
    found = store.request_of(connection, tenant, job_id)
    return found if found is not None or key is None else store.request_by_key(connection, tenant, key)


async def resolve(gateway: Gateway, who: Principal, workflow_id: str) -> str:
    """Name of the workflow. `workflow_id` is an id of this dialect, or the name of a published workflow."""
    flow = await gateway.store.read(lambda c: store.flow_by(c, who.tenant_id, "id", workflow_id))
    name = flow.name if flow is not None and flow.version else workflow_id
    found = await published_definition(gateway, name)
    if found is None or (flow is None and name.startswith(PRIVATE)):
        raise Unprocessable({"workflow_id": "there is no published workflow with this id"})
    return name


@dataclass(frozen=True)
class _Work:
    """What a job works on: its envelope, and the entry of the silo that it has or that is made for it."""

    content: bytes
    entry_id: str | None
    entry: dict[str, Any] | None = None

    @property
    def size(self) -> int:
        """Bytes that the job stores."""
        return len(self.content) + (len(json.dumps(self.entry)) if self.entry is not None else 0)


async def _work(gateway: Gateway, who: Principal, body: InvopopJob, job_id: str) -> _Work:
    """The envelope of a job. Raises 422 for an unknown entry."""
    entry_id, data, made = body.silo_entry_id, body.data, None
    if body.silo_entry_id is not None:
        wanted = body.silo_entry_id
        entry = await gateway.store.read(lambda c: store.entry_by(c, who.tenant_id, "id", wanted))
        if entry is None:
            raise Unprocessable({"silo_entry_id": "there is no such entry"})
        data = entry.get("data")
    elif data is not None:
        entry_id = derived(job_id, "entry")
        made = new_entry(entry_id, {"data": data}, clock.now())
    args = body.args if body.args is not None else body.meta
    return _Work(json.dumps(data if data is not None else args or {}, ensure_ascii=False).encode(), entry_id, made)


async def _command(
    gateway: Gateway, who: Principal, admission: Admission, body: InvopopJob, job_id: str, workflow: str, work: _Work
) -> CreateJob:
    """The command for a job whose envelope is stored."""
    if work.entry is not None:
        entry = work.entry
        await gateway.store.transact(lambda c: store.enter_entry(c, who.tenant_id, entry, clock.unix()))
    stored = await admission.objects(derived(job_id, "envelope"), work.size).put_object(work.content)
    file = FileRef(
        file_id=derived(job_id, "envelope"), file_name="envelope.json", content_type="application/json", size=stored.size,
        sha256=stored.sha256, md5=stored.md5, blob_name=stored.name,
    )  # fmt: skip
    args = body.args if body.args is not None else body.meta
    given = {"args": args or {}, "silo_entry_id": work.entry_id, "key": body.key}
    # Providers need to know the job. Built-in actions, but for the webhook, do not.
    informed = await opened_arguments(gateway, workflow, given)
    return CreateJob(
        command_id=derived(job_id, who.tenant_id, "transform-create"), job_id=job_id, owner=who.tenancy, issued_at=clock.now(),
        job=JobRequest(workflow=workflow, channel="transform", job_key=body.key, args=informed or None),
        files=(file,),
    )  # fmt: skip


@router.get("/jobs/key/{key:path}", summary="A job by its key")
async def job_by_key(key: str, gateway: GatewayDep, who: Reader) -> dict[str, Any]:
    """The same as by its id. The key may have slashes."""
    row = await gateway.store.read(lambda c: store.request_by_key(c, who.tenant_id, key))
    if row is None:
        raise ApiError(404, f"There is no job with the key {key[:200]}.")
    return await job_body(gateway, who, row.job_id)


@router.get("/jobs/{job_id}", summary="A job with its intents")
async def get_job(job_id: JobId, request: Request, gateway: GatewayDep, who: Reader, wait: Wait = 0) -> dict[str, Any]:
    """Any job of the tenant, whichever dialect created it."""
    found = await job_body(gateway, who, job_id)
    if wait and "completed_at" not in found:
        with place_to_wait(gateway, who, wait):
            await _wait(request, gateway, job_id, wait)
        found = await job_body(gateway, who, job_id)
    return found


@router.get("/jobs", summary="Jobs, newest first")
async def list_jobs(
    gateway: GatewayDep, who: Reader, created_at: Annotated[str | None, Query(max_length=40)] = None,
    cursor: Annotated[str | None, Query(max_length=500)] = None, limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> dict[str, Any]:  # fmt: skip
    """Jobs created before `created_at` (RFC 3339). `next_cursor` leads to the next page; the last page has none."""
    try:
        after = decode_cursor(cursor) if cursor else None
    except ValueError as error:
        raise Unprocessable({"cursor": str(error)}) from None
    query = JobQuery(who.tenant_id, created_before=moment(created_at) if created_at else None, after=after)
    records, following = await gateway.store.read(lambda c: find(c, query, limit))
    listed = [await job_body(gateway, who, record["id"], record) for record in records]
    page = {"list": listed, "created_at": created_at or None, "limit": limit, "cursor": cursor or None, "next_cursor": following}
    return {name: value for name, value in page.items() if value is not None}


@router.post("/jobs/intents", summary="Add an event to an intent")
async def poke(request: Request, gateway: GatewayDep, who: Operator, body: Annotated[Event, Body()]) -> dict[str, Any]:
    """`POKE` wakes a step that waits or is in back-off; `OK` and `KO` answer a step that waits for an approval or an outside event."""
    if body.status not in ("POKE", "OK", "KO"):
        raise Unprocessable({"status": "must be POKE, OK or KO"})
    if not body.id or not body.job_id:
        raise Unprocessable({"id": "id and job_id are required: ref is not supported"})
    job_id, intent = body.job_id, body.id
    record = await gateway.record("job_view", job_id, who.tenant_id)
    if record is None or record.get("step") is None or intent != intent_id(job_id, record["step"]):
        raise ApiError(404, "There is no running intent with this id.")
    common: dict[str, Any] = {"job_id": job_id, "owner": who.tenancy, "issued_at": clock.now()}
    answer = PokeJob(
        command_id=clock.new_root(), step=record["step"], outcome="KO" if body.status == "KO" else "OK", code=body.code,
        message=body.message, approval=who.may("operator"), **common,
    )  # fmt: skip
    try:
        await send_command(request, gateway, answer, "The event")
    except ApiError as error:
        if body.status != "POKE" or error.status != 409:
            raise
        again = RetryJobNow(command_id=clock.new_root(), reason=body.message or "poke", **common)
        await send_command(request, gateway, again, "The event")
    found = await job_body(gateway, who, job_id)
    shown: dict[str, Any] = next(i for i in found["intents"] if i["id"] == intent)
    return shown
