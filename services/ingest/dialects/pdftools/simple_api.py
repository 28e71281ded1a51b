"""The Conversion Service's Simple API (reference/vendor-apis.md §3.5)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from starlette.responses import JSONResponse

from contracts import FileRef
from services.ingest.adapters.admission import Admission, admit
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.remote_files import RemoteFailed
from services.ingest.adapters.store.reservations import Place
from services.ingest.core.file_names import clean_name, path_part
from services.ingest.dialects.pdftools import store
from services.ingest.dialects.pdftools.common import PREFIX, Caller, checked_options, read_body, resolve_workflow
from services.ingest.dialects.pdftools.jobs import add_file, create, job_of, start
from services.ingest.dialects.pdftools.names import BUILT_IN_CONNECTIONS
from services.ingest.dialects.pdftools.options import HTTP_STATUS, data_of, error_of
from services.ingest.dialects.pdftools.results import MAX_WAIT_S
from services.ingest.http.archive import zip_stream
from services.ingest.http.audit_trail import DOWNLOAD
from services.ingest.http.dependencies import GatewayDep
from services.ingest.http.download import send
from services.ingest.http.errors import ApiError
from services.ingest.http.multipart import declared_size, receive
from services.ingest.http.prefer_wait import place_to_wait
from services.ingest.http.records import ended_job, files_of
from shared import clock
from shared.objects.object_store import StoredObject
from shared.web.api_keys import Principal

router = APIRouter(prefix=PREFIX, tags=["Conversion Service"])
ConnectionId = Annotated[str, Path(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


async def connection_of(gateway: Gateway, who: Principal, connection_id: str) -> tuple[str, str, str | None]:
    """(workflow, profile, output URL) of a connection of the tenant, or of a built-in one. Raises 404."""
    row = await gateway.store.read(lambda c: store.connection_by(c, who.tenant_id, connection_id))
    if row is not None:
        return row.workflow, row.profile, row.output_url
    if connection_id in BUILT_IN_CONNECTIONS:
        return *BUILT_IN_CONNECTIONS[connection_id], None
    raise ApiError(404, f"There is no connection {connection_id}.", code="connectionNotFound")


def _reference(file_id: str, stored: StoredObject, name: str, media_type: str) -> FileRef:
    return FileRef(
        file_id=file_id, file_name=name, content_type=media_type[:200] or "application/octet-stream", size=stored.size,
        sha256=stored.sha256, md5=stored.md5, blob_name=stored.name,
    )  # fmt: skip


async def _place(gateway: GatewayDep, who: Caller) -> AsyncIterator[None]:
    """A place among the requests that wait, from before the documents are read to the end of the answer. Raises `TooMany`."""
    with place_to_wait(gateway, who, MAX_WAIT_S):
        yield


WAITS = [DOWNLOAD, Depends(_place)]
"""Dependencies of the calls that answer with the result."""


@router.post("/http.input/{connection_id}", summary="Convert one document", response_class=Response, dependencies=WAITS)
async def plain(connection_id: ConnectionId, request: Request, gateway: GatewayDep, who: Caller) -> Response:
    """The document is the body, or the part `data` of a form. 200 with the result; 202 when the connection sends results to a
    URL."""
    workflow, profile, output = await connection_of(gateway, who, connection_id)
    file_id, size = clock.new_root(), declared_size(request) or 0
    async with admit(gateway, who.tenant_id, [Place(file_id, files=1, bytes=size)]) as admission:
        body = admission.metered(file_id, size, request.stream())
        file = await _body(request, admission, body, file_id)
        job_id = await _run(request, gateway, who, admission, (workflow, profile), "", [], [(file, [])], output)
    if output is not None:
        return Response(status_code=202)
    made = await _outputs(request, gateway, job_id)
    if len(made) == 1:
        return await send(request, gateway.objects.of(who.tenant_id), made[0]["blob"], made[0]["file_name"])
    entries = [(f"{n}-{path_part(d['file_name'])}", d["blob"]) for n, d in enumerate(made, 1)]
    content = b"".join([chunk async for chunk in zip_stream(gateway.objects.of(who.tenant_id), entries)])
    return Response(content, media_type="application/zip", headers={"content-disposition": 'attachment; filename="result.zip"'})


async def _body(request: Request, admission: Admission, body: AsyncIterator[bytes], file_id: str) -> FileRef:
    """The document in the request: its whole body, or the part `data` of a form. Raises 400 when there is none."""
    limit, objects = admission.gateway.settings.max_file_bytes, admission.objects(file_id)
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        upload = await receive(request, objects, limit, "data", body)
        if upload.stored is None:
            raise ApiError(400, "data: the part is missing", "data", code="noData")
        return _reference(file_id, upload.stored, upload.file_name or "document", upload.content_type)
    stored = await objects.put_stream(body, limit)
    if not stored.size:
        raise ApiError(400, "body: it is empty", "body", code="noData")
    return _reference(file_id, stored, "document", request.headers.get("content-type", ""))


@router.post("/http.inputstructured/{connection_id}", summary="Convert documents", response_class=Response, dependencies=WAITS)
async def structured(connection_id: ConnectionId, request: Request, gateway: GatewayDep, who: Caller) -> Response:
    """The body is `{name?, data: [{url | content, fileName, options}], options, variables}` with contents as base64.

    200 with `{data: [{fileName, content}]}`; 202 when the connection sends results to a URL.
    """
    workflow, profile, output = await connection_of(gateway, who, connection_id)
    body = await read_body(request)
    listed = body.get("data") if isinstance(body, dict) else None
    if not isinstance(listed, list) or not listed or len(listed) > 100:
        raise ApiError(400, "data: 1 to 100 documents are expected", "data", code="noData")
    pairs = checked_options(body.get("options"), 400)
    name = body.get("name") if isinstance(body.get("name"), str) else ""
    places = [Place(clock.new_root(), files=1, bytes=_least_size(entry)) for entry in listed]
    async with admit(gateway, who.tenant_id, places) as admission:
        files = [
            (await _document(gateway, admission, entry, n, places[n]), list(checked_options(entry.get("options"), 400)))
            for n, entry in enumerate(listed)
        ]
        flow = (workflow, profile)
        job_id = await _run(request, gateway, who, admission, flow, str(name)[:200], list(pairs), files, output)
    if output is not None:
        return Response(status_code=202)
    data = [
        {
            "fileName": d["file_name"],
            "content": base64.b64encode(await gateway.objects.of(who.tenant_id).get_object(d["blob"])).decode(),
        }
        for d in await _outputs(request, gateway, job_id)
    ]
    return JSONResponse({"data": data})


def _least_size(entry: Any) -> int:
    """Bytes of a document that is given as base64; 0 where it lies at a URL."""
    content = entry.get("content") if isinstance(entry, dict) else None
    return len(content) * 3 // 4 if isinstance(content, str) else 0


async def _document(gateway: Gateway, admission: Admission, entry: Any, number: int, place: Place) -> FileRef:
    field, objects = f"data.{number}", admission.objects(place.id)
    if not isinstance(entry, dict):
        raise ApiError(400, f"{field}: an object is expected", field)
    url, content, name = entry.get("url"), entry.get("content"), entry.get("fileName")
    if isinstance(url, str) and content is None:
        try:
            through = partial(admission.metered, place.id, place.bytes)
            stored, found, media_type = await gateway.remote.fetch(objects, url, gateway.settings.max_file_bytes, through)
        except RemoteFailed as error:
            raise ApiError(400, f"{field}.url: {error}", f"{field}.url", code="urlNotDownloadable") from None
        return _reference(place.id, stored, clean_name(name) if isinstance(name, str) and clean_name(name) else found, media_type)
    if not isinstance(content, str) or not isinstance(name, str) or not clean_name(name):
        raise ApiError(400, f"{field}: url, or content and fileName are expected", field)
    try:
        data = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(400, f"{field}.content: base64 is expected", f"{field}.content") from None
    return _reference(place.id, await objects.put_object(data), clean_name(name), "")


async def _run(
    request: Request,
    gateway: Gateway,
    who: Principal,
    admission: Admission,
    flow: tuple[str, str],
    name: str,
    pairs: Any,
    files: Any,
    output: str | None,
) -> str:
    """Create a job, add its documents, start it. Returns the id of our job."""
    theirs, _, profile, _ = await resolve_workflow(gateway, who, *flow)
    conversion_id = await create(request, gateway, who, theirs, profile, name, pairs)
    for file, own in files:
        await add_file(request, gateway, who, admission, conversion_id, file, own)
    job_id = await start(request, gateway, who, await job_of(gateway, who, conversion_id))

    def settle(connection: Any) -> None:
        # The caller does not know the job's id, so it could never delete the job.
        store.forget(connection, conversion_id)
        if output is not None:
            store.add_delivery(connection, job_id, who.tenant_id, "url", output, clock.unix())

    await gateway.store.transact(settle)
    gateway.delivery_wake.set()
    return job_id


async def _outputs(request: Request, gateway: Gateway, job_id: str) -> list[dict[str, Any]]:
    """Outputs of the job, once it has ended. Raises the error that the job's failure stands for."""
    job = await ended_job(request, gateway, job_id, MAX_WAIT_S)
    if job is None:
        raise ApiError(503, "The result is not available yet.", code="notAvailable", retry_after_s=1)
    files = await files_of(gateway, "job_id", job_id)
    made = data_of(job, files) if job["stage"] == "completed" else []
    if not made:
        error = error_of(job, files)
        raise ApiError(HTTP_STATUS[error["code"]], error["message"], code=error["code"])
    return made
