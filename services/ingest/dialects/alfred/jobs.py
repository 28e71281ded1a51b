"""Alfred's dialect: deferred sessions, files, jobs. Paths and shapes as in reference/vendor-apis.md §1.6."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request
from pydantic_core import from_json
from sqlalchemy import Connection, text
from starlette.responses import Response

from contracts import AddFile, CancelJob, CloseSession, FileRef, OpenSession, derived
from contracts.identity import plain_id
from contracts.topics import JOB_COMMANDS_TOPIC
from services.ingest.adapters.admission import Admission, admit
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store import read_model as rm
from services.ingest.adapters.store.reservations import HOLD_S, REMOTE_HOLD_S, Place, job_place
from services.ingest.dialects.alfred import bodies, views
from services.ingest.dialects.alfred.remote_jobs import container_files, submit_remote
from services.ingest.http.audit_trail import DOWNLOAD
from services.ingest.http.commands import send_session_command, session_refused
from services.ingest.http.dependencies import GatewayDep, Reader, Uploader, Writer
from services.ingest.http.download import send
from services.ingest.http.errors import ApiError
from services.ingest.http.idempotency import id_for
from services.ingest.http.known_workflows import require_workflow
from services.ingest.http.links import public_link
from services.ingest.http.multipart import BadUpload, Upload, declared_size, receive
from services.ingest.http.prefer_wait import place_to_wait, preferred_wait, wait_if_preferred
from services.ingest.http.records import FEW, FILES, MOST, file_record, files_of, job_record
from services.ingest.http.remote_files import remote_file, remote_places
from shared import clock
from shared.objects.object_store import TooLarge
from shared.web.api_keys import Principal
from shared.web.middleware import trace_of

router = APIRouter(prefix="/api", tags=["Alfred"], max_body_size=1 << 20)
uploads = APIRouter(prefix="/api", tags=["Alfred"])


@router.post("/deferred/create", summary="Open a deferred session", responses=bodies.example({"session_id": bodies.UUID_1}))
async def create_session(request: Request, gateway: GatewayDep, who: Writer) -> dict[str, str]:
    """The session takes files until a job is created from it, or until it expires."""
    session_id = id_for(request, who, "session")
    command = OpenSession(
        command_id=clock.new_root(), session_id=session_id, owner=who.tenancy, issued_at=clock.now(),
        ttl_s=gateway.settings.session_ttl_s,
    )  # fmt: skip
    await send_session_command(request, gateway, command, "The session")
    return {"session_id": session_id}


@router.get("/deferred/detail/{session_id}", summary="A deferred session and its files", responses=bodies.NOT_FOUND)
async def session_detail(session_id: str, gateway: GatewayDep, who: Reader) -> dict[str, Any]:
    """The session's state (`open`, `closed`, `expired`), its job if there is one, and its files."""
    session = await gateway.record("session_view", session_id, who.tenant_id)
    if session is None:
        raise ApiError(404, f"Deferred Session with ID {session_id} does not exist.")
    return views.session(session, [bodies.file_entry(f) for f in await files_of(gateway, "session_id", session_id)])


@uploads.post(
    "/file/uploadfile", summary="Upload a file into a session", openapi_extra=bodies.UPLOAD_FORM,
    responses={**bodies.example({"file_id": bodies.UUID_2}), **bodies.NOT_FOUND, **bodies.CONFLICT, **bodies.TOO_LARGE},
)  # fmt: skip
async def upload_file(request: Request, gateway: GatewayDep, claim: Uploader) -> dict[str, str]:
    """Multipart form with `file`, `session_id` and optionally `metadata` (JSON text). The file is streamed to the object store."""
    who = claim.claimed
    file_id, size = id_for(request, who, "file"), declared_size(request) or 0
    async with admit(gateway, who.tenant_id, []) as admission:
        # A signed form is proven at its end. Nobody else may take the tenant's places meanwhile.
        claim.admit.append(lambda: admission.add([Place(file_id, files=1, bytes=size)]))
        body = admission.metered(file_id, size, claim.body()) if claim.proven else claim.body()
        try:
            upload = await receive(request, admission.objects(file_id), gateway.settings.max_file_bytes, body=body)
        except (BadUpload, TooLarge):
            await claim.require_proof()
            raise
        return await _add_upload(request, gateway, who, admission, upload, file_id)


async def _add_upload(
    request: Request, gateway: Gateway, who: Principal, admission: Admission, upload: Upload, file_id: str
) -> dict[str, str]:
    session_id = plain_id(upload.fields.get("session_id", "").strip())
    if not session_id:
        raise ApiError(400, "session_id: Field required", "session_id")
    if upload.stored is None:
        raise ApiError(400, "file: Field required", "file")
    if not upload.file_name:
        raise ApiError(400, "file: a file name is required", "file")
    command = AddFile(
        command_id=clock.new_root(), session_id=session_id, owner=who.tenancy, issued_at=clock.now(),
        file=_reference(upload, file_id),
    )  # fmt: skip
    admission.sent.add(file_id)
    answer = await send_session_command(request, gateway, command, "The file")
    if not answer["ok"]:
        await admission.release(file_id)
        raise session_refused(answer)
    admission.accept(file_id)
    return {"file_id": file_id}


def _reference(upload: Upload, file_id: str) -> FileRef:
    assert upload.stored is not None
    metadata = upload.fields.get("metadata") or None
    if metadata is not None:
        try:
            metadata = json.loads(metadata)
        except (ValueError, RecursionError) as error:
            raise ApiError(400, f"metadata: not valid JSON: {error}", "metadata") from None
        if not isinstance(metadata, (dict, list, str)) and metadata is not None:
            raise ApiError(400, "metadata: a JSON object is expected", "metadata")
    stored = upload.stored
    return FileRef(
        file_id=file_id, file_name=upload.file_name, content_type=upload.content_type or "application/octet-stream",
        size=stored.size, sha256=stored.sha256, md5=stored.md5, blob_name=stored.name, metadata=metadata,
    )  # fmt: skip


@router.post(
    "/file/upload", summary="Create a job from remote files",
    responses=bodies.example({"job_id": bodies.UUID_1, "file_id": bodies.UUID_2, "file_ids": [bodies.UUID_2]}),
)  # fmt: skip
async def upload_remote(
    request: Request, gateway: GatewayDep, who: Writer, body: Annotated[bodies.RemoteUpload, Body()]
) -> dict[str, Any]:
    """`url`, or `urls` (at most 100), or `container` with `file_names`. A worker downloads the files; internal addresses are
    refused."""
    return await submit_remote(request, gateway, who, body)


@router.post(
    "/job/create", summary="Create a job from a session",
    responses={**bodies.example({"job_id": bodies.UUID_1}), **bodies.NOT_FOUND, **bodies.CONFLICT},
)  # fmt: skip
async def create_job(
    request: Request, response: Response, gateway: GatewayDep, who: Writer, body: Annotated[bodies.JobCreate, Body()]
) -> dict[str, str]:
    """Closes the session. Repeating the call with the same body returns the same job; another body is 409.

    With `Prefer: wait=N` (at most 60 seconds) the answer comes when the job has ended and includes its `stage`.
    """
    with place_to_wait(gateway, who, preferred_wait(request)):
        return await _create_job(request, response, gateway, who, body)


async def _create_job(
    request: Request, response: Response, gateway: Gateway, who: Principal, body: bodies.JobCreate
) -> dict[str, str]:
    command = CloseSession(
        command_id=clock.new_root(),
        session_id=body.session_id,
        owner=who.tenancy,
        issued_at=clock.now(),
        job=body.job_request(),
    )
    await require_workflow(gateway, who, command.job.workflow, command.job.workflow_version, derived(body.session_id, "job"))
    found = container_files(gateway, who, body) if body.container is not None else []
    files = [remote_file(derived(body.session_id, "container", url), i, url, None) for i, url in enumerate(found)]
    # The session service derives the job's id from the session's.
    places = [job_place(derived(body.session_id, "job")), *remote_places(gateway, files)]
    async with admit(gateway, who.tenant_id, places, REMOTE_HOLD_S if files else HOLD_S) as admission:
        admission.published = True
        answer = await _close(request, gateway, who, command, files)
        if answer["ok"] or (answer["reason"] == "closed" and answer["job_id"]):
            record = await wait_if_preferred(request, response, gateway, answer["job_id"])
            return {"job_id": answer["job_id"], **({"stage": record["stage"]} if record else {})}
        await admission.release()
        raise session_refused(answer)


async def _close(
    request: Request, gateway: Gateway, who: Principal, close: CloseSession, files: Sequence[FileRef]
) -> dict[str, Any]:
    """Add files of a container to the session, then close it. Repeating it adds nothing. Returns the answer, also a refusal."""
    for file in files:
        command = AddFile(
            command_id=clock.new_root(), session_id=close.session_id, owner=who.tenancy, issued_at=clock.now(), file=file
        )
        answer = await send_session_command(request, gateway, command, "The file")
        if not answer["ok"] and answer["reason"] != "closed":
            return answer
    return await send_session_command(request, gateway, close, "The job")


@router.get("/job/detail/{job_id}", summary="A job and its files", responses=bodies.NOT_FOUND)
async def job_detail(job_id: str, gateway: GatewayDep, who: Reader) -> dict[str, Any]:
    """The job's whole record: `stage` is the job's present stage, `files` lists the state of each file."""

    def look(c: Connection, most: int) -> tuple[dict[str, Any] | None, list[str]]:
        # One read for both: starting a read costs more than either query.
        job = rm.records(c, "job_view", [job_id]).get(job_id)
        mine = job is not None and job["company_id"] == who.tenant_id
        return (job, [body for (body,) in FILES["job_id"].rows(c, {"v": job_id, "n": most})]) if mine else (None, [])

    job, files = await gateway.store.look_up(lambda c: look(c, FEW + 1))
    if len(files) > FEW:
        job, files = await gateway.store.read(lambda c: look(c, MOST))
    if job is None:
        raise ApiError(404, f"Job with ID {job_id} does not exist.")
    return views.job(job, partial(public_link, gateway), [bodies.file_entry(from_json(body)) for body in files])


@router.get("/job/all", summary="Jobs, newest first")
async def all_jobs(
    gateway: GatewayDep,
    who: Reader,
    page: Annotated[int, Query(alias="currentPage", ge=1, le=1_000_000)] = 1,
    size: Annotated[int, Query(alias="pageSize", ge=1, le=100)] = 20,
) -> dict[str, Any]:
    """One page of the company's jobs under `result`. `files` is null here; `job/detail` lists them."""
    query = text("SELECT body FROM job_view WHERE tenant_id = :t ORDER BY created_at DESC, id LIMIT :n OFFSET :o")
    count = text("SELECT count(*) FROM job_view WHERE tenant_id = :t")
    values = {"t": who.tenant_id, "n": size, "o": (page - 1) * size}
    rows = await gateway.store.read(lambda c: c.execute(query, values).scalars().all())
    total = await gateway.store.read(lambda c: c.execute(count, {"t": who.tenant_id}).scalar_one())
    pages = -(-total // size)
    return {
        "result": [views.job(json.loads(body), partial(public_link, gateway)) for body in rows], "currentPage": page,
        "pageSize": size, "totalCount": total, "totalPages": pages,
    }  # fmt: skip


@router.post("/job/cancel/{job_id}", summary="Cancel a job", status_code=202, responses={**bodies.NOT_FOUND, **bodies.CONFLICT})
async def cancel_job(
    job_id: str, request: Request, gateway: GatewayDep, who: Writer, body: Annotated[bodies.Cancel | None, Body()] = None
) -> dict[str, str]:
    """Asks for the job's end; its running tasks are stopped. 409 when the job has already ended."""
    job = await job_record(gateway, job_id, who)
    if job["stage"] in ("completed", "failed", "invalid", "cancelled"):
        raise ApiError(409, f"Job with ID {job_id} has ended: {job['stage']}.")
    reason = body.reason if body else ""
    command = CancelJob(command_id=clock.new_root(), job_id=job_id, owner=who.tenancy, issued_at=clock.now(), reason=reason)
    await gateway.publisher.publish_command(JOB_COMMANDS_TOPIC.name, command, trace_of(request))
    return {"job_id": job_id, "command_id": command.command_id}


@router.get("/file/detail/{file_id}", summary="A file", responses=bodies.NOT_FOUND)
async def file_detail(file_id: str, gateway: GatewayDep, who: Reader) -> dict[str, Any]:
    """The file's whole record: its tag, extracted `fields`, and `code` and `message` if the file failed."""
    return views.file(await file_record(gateway, file_id, who), partial(public_link, gateway))


@router.get(
    "/file/download/{file_id}",
    summary="Download a file",
    response_class=Response,
    responses=bodies.NOT_FOUND,
    dependencies=[DOWNLOAD],
)
async def download_file(file_id: str, request: Request, gateway: GatewayDep, who: Reader) -> Response:
    """The original bytes under the original name. `Range` requests a part of them."""
    record = await file_record(gateway, file_id, who)
    if not record["blob_name"]:
        raise ApiError(404, f"File with ID {file_id} has no content yet.")
    return await send(
        request, gateway.objects.of(who.tenant_id), record["blob_name"], record["file_name"], record.get("content_type")
    )
