"""The Conversion Service's Advanced API: jobs (reference/vendor-apis.md §3.1). A job in state `creating` is an open session of
ours."""

from __future__ import annotations

import json
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import Connection

from contracts import AddFile, CancelJob, CloseSession, FileRef, JobRequest, OpenSession, derived
from contracts.topics import JOB_COMMANDS_TOPIC
from services.ingest.adapters.admission import Admission, admit
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.remote_files import RemoteFailed
from services.ingest.adapters.store import erasure_requests
from services.ingest.adapters.store.reservations import Place, job_place
from services.ingest.dialects.pdftools import store
from services.ingest.dialects.pdftools.common import (
    PREFIX,
    Caller,
    checked_options,
    parse_body,
    published_workflows,
    read_body,
    resolve_workflow,
)
from services.ingest.dialects.pdftools.names import DEFAULT_PROFILE, DEFAULT_WORKFLOW, STEPS, WORKFLOWS, built_in_profiles
from services.ingest.dialects.pdftools.options import Options, Pairs, merge_options, options_of, status_of
from services.ingest.http.commands import send_session_command
from services.ingest.http.dependencies import GatewayDep
from services.ingest.http.errors import ApiError
from services.ingest.http.multipart import declared_size, receive
from services.ingest.http.parameters import opened_arguments
from shared import clock
from shared.objects.object_store import StoredObject
from shared.web.api_keys import Principal
from shared.web.middleware import trace_of

router = APIRouter(prefix=PREFIX, tags=["Conversion Service"])
VERSION = "6.0"
FORM = "multipart/form-data"
Name = Annotated[str | None, Query(max_length=200)]


async def job_of(gateway: Gateway, who: Principal, conversion_id: str) -> Any:
    """The job's row. Raises 404."""
    row = await gateway.store.read(lambda c: store.find(c, conversion_id, who.tenant_id))
    if row is None:
        raise ApiError(404, f"There is no job '{conversion_id[:80]}'.", code="jobNotFound")
    return row


async def job_status(gateway: Gateway, who: Principal, row: Any) -> dict[str, Any]:
    """The job's id and status: `{jobId, status}`."""
    job = await gateway.record("job_view", row.job_id, who.tenant_id) if row.job_id else None
    return {"jobId": row.id, "status": status_of(row._mapping, job)}


@router.post("/jobs/", status_code=201, summary="createJob")
@router.post("/jobs", status_code=201, include_in_schema=False)
async def create_job(
    request: Request, gateway: GatewayDep, who: Caller, workflow: Name = None, profile: Name = None, name: Name = None
) -> dict[str, Any]:
    """The body lists the job's options, as JSON or XML.

    400 for unreadable bodies and unknown options, workflows or profiles; 415 for other media types; 503 when the tenant has too
    many jobs.
    """
    pairs = checked_options(await read_body(request), 400)
    theirs, _, wanted, _ = await resolve_workflow(gateway, who, workflow, profile)
    conversion_id = await create(request, gateway, who, theirs, wanted, name or "", list(pairs))
    return await job_status(gateway, who, await job_of(gateway, who, conversion_id))


async def create(request: Request, gateway: Gateway, who: Principal, workflow: str, profile: str, name: str, pairs: Any) -> str:
    """Open a job for data and return its id. Raises 503 when the tenant has too many jobs."""
    conversion_id = clock.new_root()
    row = {
        "id": conversion_id,
        "t": who.tenant_id,
        "w": workflow,
        "p": profile,
        "n": name,
        "o": json.dumps(pairs),
        "at": clock.unix(),
    }
    most, kept = gateway.settings.conversion_max_jobs, gateway.settings.conversion_ttl_s
    if not await gateway.store.transact(lambda c: store.enter(c, row, most, kept)):
        raise ApiError(
            503, f"There are {most} jobs already: delete those that are finished.", code="tooManyJobs", retry_after_s=5
        )
    command = OpenSession(
        command_id=clock.new_root(), session_id=conversion_id, owner=who.tenancy, issued_at=clock.now(), ttl_s=int(kept)
    )
    await send_session_command(request, gateway, command, "The job")
    return conversion_id


@router.post("/jobs/{job_id}/data/", status_code=201, summary="addData")
@router.post("/jobs/{job_id}/data", status_code=201, include_in_schema=False)
async def add_data(
    job_id: str, request: Request, gateway: GatewayDep, who: Caller, url: Annotated[str | None, Query(max_length=2048)] = None
) -> dict[str, str]:
    """A form with `data` and optionally `options`; or `url` in the query, with the options as body. Beside a form, `url` is ignored.

    409 after the start; 427 for options that are not valid for a document.
    """
    row = await job_of(gateway, who, job_id)
    if row.started_at is not None:
        raise ApiError(409, "The job has been started or canceled already.", code="jobAlreadyStarted")
    url = None if _media_type(request) == FORM else url
    file_id, size = clock.new_root(), (declared_size(request) or 0) if url is None else 0
    async with admit(gateway, who.tenant_id, [Place(file_id, files=1, bytes=size)]) as admission:
        stored, name, media_type, pairs = await _receive_data(request, gateway, who, admission, (file_id, size), url)
        file = FileRef(
            file_id=file_id, file_name=name, content_type=media_type or "application/octet-stream", size=stored.size,
            sha256=stored.sha256, md5=stored.md5, blob_name=stored.name,
        )  # fmt: skip
        await add_file(request, gateway, who, admission, job_id, file, list(pairs))
    return {"dataId": file_id}


async def _receive_data(
    request: Request, gateway: Gateway, who: Principal, admission: Admission, place: tuple[str, int], url: str | None
) -> tuple[StoredObject, str, str, Pairs]:
    """Object, name, media type and options of the document in the request, or at `url`."""
    most = gateway.settings.max_file_bytes
    if url is not None:
        pairs = checked_options(await read_body(request), 427)
        try:
            found = await gateway.remote.fetch(admission.objects(place[0]), url, most, partial(admission.metered, *place))
        except RemoteFailed as error:
            raise ApiError(400, f"url: {error}", "url", code="urlNotDownloadable") from None
        return *found, pairs
    if _media_type(request) == FORM:
        body = admission.metered(*place, request.stream())
        upload = await receive(request, admission.objects(place[0]), most, "data", body)
        text = upload.fields.get("options", "")
        pairs = checked_options(parse_body(text.encode(), text.lstrip().startswith("<")), 427)
        if upload.stored is None or not upload.file_name:
            raise ApiError(400, "data: a part with a file name is required", "data")
        return upload.stored, upload.file_name, upload.content_type, pairs
    raise ApiError(415, "Content-Type: multipart/form-data is expected, or url in the query", "Content-Type")


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def add_file(
    request: Request, gateway: Gateway, who: Principal, admission: Admission, conversion_id: str, file: FileRef, pairs: Any
) -> None:
    """Add a stored document with its options. Raises 409 when the job is started or canceled."""
    await gateway.store.transact(lambda c: store.save_data(c, file.file_id, conversion_id, pairs))
    command = AddFile(command_id=clock.new_root(), session_id=conversion_id, owner=who.tenancy, issued_at=clock.now(), file=file)
    admission.sent.add(file.file_id)
    answer = await send_session_command(request, gateway, command, "The document")
    if not answer["ok"]:
        await admission.release(file.file_id)
        raise ApiError(409, answer["message"], code="jobAlreadyStarted")
    admission.accept(file.file_id)


@router.post("/jobs/{job_id}:start", status_code=204, summary="startJob")
async def start_job(job_id: str, request: Request, gateway: GatewayDep, who: Caller) -> Response:
    """204. 409 when the job was started before, or has no data."""
    row = await job_of(gateway, who, job_id)
    if row.started_at is not None:
        raise ApiError(409, "The job has been started or canceled already.", code="jobAlreadyStarted")
    await start(request, gateway, who, row)
    return Response(status_code=204)


async def start(request: Request, gateway: Gateway, who: Principal, row: Any) -> str:
    """Start a job and return the id of our job. Its options travel as an object, because they may contain passwords."""
    _, ours, _, defaults = await resolve_workflow(gateway, who, row.workflow, row.profile)
    documents = await gateway.store.read(lambda c: store.data_options(c, row.id))
    own: dict[str, Options] = {i: options_of([(n, v) for n, v in pairs]) for i, pairs in documents.items()}
    named = options_of([(n, v) for n, v in json.loads(row.options)])
    objects = gateway.claiming(who.tenant_id, derived(row.id, "job"))
    options = await objects.put_json({**merge_options(defaults, named, own), "conversion_id": row.id})
    config = {"options_blob": options.name, **({"name": row.name} if row.name else {})}
    command = CloseSession(
        command_id=clock.new_root(), session_id=row.id, owner=who.tenancy, issued_at=clock.now(),
        job=JobRequest(workflow=ours, channel="conversion", args=await opened_arguments(gateway, ours, config, STEPS) or None),
    )  # fmt: skip
    # The session service derives the job's id from the session's.
    async with admit(gateway, who.tenant_id, [job_place(derived(row.id, "job"))]) as admission:
        admission.published = True
        answer = await send_session_command(request, gateway, command, "The start")
        if not answer["ok"] and not (answer["reason"] == "closed" and answer["job_id"]):
            await admission.release()
            code = "noData" if answer["reason"] == "empty" else "jobAlreadyStarted"
            raise ApiError(409, "The job has no data." if code == "noData" else answer["message"], code=code)
    await gateway.store.transact(lambda c: store.started(c, row.id, answer["job_id"], clock.unix()))
    return str(answer["job_id"])


@router.post("/jobs/{job_id}:cancel", status_code=202, summary="cancelJob")
async def cancel_job(job_id: str, request: Request, gateway: GatewayDep, who: Caller) -> Response:
    """Always 202: the result shows whether the job was canceled in time. A job that is not started is unaffected."""
    row = await job_of(gateway, who, job_id)
    if row.job_id is not None:
        command = CancelJob(
            command_id=clock.new_root(), job_id=row.job_id, owner=who.tenancy, issued_at=clock.now(), reason="canceled"
        )
        await gateway.publisher.publish_command(JOB_COMMANDS_TOPIC.name, command, trace_of(request))
    return Response(status_code=202)


@router.get("/jobs/{job_id:segment}", summary="getJobInfo")
async def job_info(job_id: str, gateway: GatewayDep, who: Caller) -> dict[str, Any]:
    """The job's status. The result shows whether the job succeeded."""
    return await job_status(gateway, who, await job_of(gateway, who, job_id))


@router.delete("/jobs/{job_id:segment}", status_code=204, summary="deleteJob")
async def delete_job(job_id: str, gateway: GatewayDep, who: Caller) -> Response:
    """Erases the job with its data, options and results. 204; 202 for a job that still runs: it is canceled, and erased once it has ended."""
    row = await job_of(gateway, who, job_id)
    running = (await job_status(gateway, who, row))["status"]["code"] in ("pending", "processing")

    def forget(connection: Connection) -> None:
        store.forget(connection, row.id)
        kind: erasure_requests.Kind = "job" if row.job_id else "session"
        user = who.tenancy.user_name
        erasure_requests.ask(connection, kind, row.job_id or row.id, who.tenant_id, user, "deleted", clock.unix())

    await gateway.store.transact(forget)
    gateway.erasure_wake.set()
    return Response(status_code=202 if running else 204)


@router.get("/jobs/", summary="listJobs")
@router.get("/jobs", include_in_schema=False)
async def list_jobs(gateway: GatewayDep, who: Caller) -> list[dict[str, Any]]:
    """All jobs that are not deleted."""
    return [await job_status(gateway, who, row) for row in await gateway.store.read(lambda c: store.listed(c, who.tenant_id))]


@router.get("/workflows", summary="listWorkflows")
async def list_workflows(gateway: GatewayDep, who: Caller) -> list[dict[str, Any]]:
    """The vendor's workflows, then our published ones, each with its profiles."""
    own = await gateway.store.read(lambda c: store.profiles(c, who.tenant_id))
    found = []
    for name in [*WORKFLOWS, *await published_workflows(gateway)]:
        mine = {p.name: bool(p.is_default) for p in own if p.workflow == name}
        mine = dict.fromkeys(built_in_profiles(name), False) | mine
        if not any(mine.values()):
            mine[DEFAULT_PROFILE] = True
        listed = [{"name": n, "isDefault": d} for n, d in sorted(mine.items())]
        found.append({"name": name, "isDefault": name == DEFAULT_WORKFLOW, "profiles": listed})
    return found


@router.get("/", summary="getServiceStatus")
@router.get("", include_in_schema=False)
async def service_status(gateway: GatewayDep, who: Caller) -> dict[str, Any]:
    """`status` is `running`. `isolation.queueLength` counts the jobs that no worker has begun."""
    rows = [await job_status(gateway, who, row) for row in await gateway.store.read(lambda c: store.listed(c, who.tenant_id))]
    codes = [r["status"]["code"] for r in rows]
    counts = {"creating": codes.count("creating"), "processing": codes.count("processing") + codes.count("pending")}
    return {
        "version": VERSION, "status": "running", "isolation": {"processCount": 1, "queueLength": codes.count("pending")},
        "jobCounts": {**counts, "completed": codes.count("completed"), "total": len(codes)}, "startTime": STARTED,
    }  # fmt: skip


STARTED = clock.now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
