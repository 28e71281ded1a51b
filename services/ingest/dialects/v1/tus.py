"""Resumable uploads into sessions by tus 1.0.0, under /v1/uploads (tus.io/protocols/resumable-upload).

`Upload-Metadata` contains `session_id` and `filename`, and may contain `filetype` and `metadata` (JSON text). After the last byte
the upload becomes a file of the session; the header `Stageline-File-Id` has its id.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

from fastapi import APIRouter, Request
from sqlalchemy import Connection, text
from starlette.responses import Response

from contracts import derived
from contracts.identity import plain_id
from contracts.loose import check_metadata
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store import uploads
from services.ingest.adapters.store.quotas import Quotas
from services.ingest.core import tus
from services.ingest.core.file_names import clean_name
from services.ingest.dialects.v1.tus_body import receive_bytes
from services.ingest.http.dependencies import GatewayDep, Writer
from services.ingest.http.errors import ApiError
from services.ingest.http.idempotency import keyed_root
from shared import clock
from shared.web.api_keys import Principal
from shared.web.openapi import REPEATABLE

router = APIRouter(prefix="/v1/uploads", tags=["Uploads"])
OCTETS = "application/offset+octet-stream"
RESUMABLE = {"tus-resumable": tus.VERSION}


def require_version(request: Request) -> None:
    """Raises 412 for another version of the protocol."""
    if request.headers.get("tus-resumable") != tus.VERSION:
        raise ApiError(412, f"Tus-Resumable: {tus.VERSION} is expected", "Tus-Resumable")


def bad_header(error: ValueError) -> ApiError:
    """The answer to a malformed header."""
    return ApiError(400, str(error), str(error).partition(":")[0])


@router.options("", summary="Capabilities of the server", status_code=204, operation_id="getUploadCapabilities")
async def options(gateway: GatewayDep) -> Response:
    """Protocol version, extensions, checksum algorithms and largest size in bytes."""
    return Response(
        status_code=204,
        headers={
            **RESUMABLE, "tus-version": tus.VERSION, "tus-extension": tus.EXTENSIONS,
            "tus-checksum-algorithm": ",".join(tus.ALGORITHMS), "tus-max-size": str(gateway.settings.max_upload_bytes),
        },
    )  # fmt: skip


@router.post("", status_code=201, summary="Create an upload", operation_id="createUpload", openapi_extra=REPEATABLE)
async def create(request: Request, gateway: GatewayDep, who: Writer) -> Response:
    """`Upload-Length` or `Upload-Defer-Length: 1`, `Upload-Metadata`, and optionally `Upload-Concat`. The body may contain the
    first bytes.

    A repeat under the same `Idempotency-Key` returns the upload that the first request made, with its offset.
    """
    require_version(request)
    try:
        length = tus.number(request.headers, "upload-length")
        kind, partials = tus.concat(request.headers.get("upload-concat"))
        said = tus.metadata(request.headers.get("upload-metadata", ""))
    except tus.BadHeader as error:
        raise bad_header(error) from None
    _check_length(gateway, request, length, kind)
    upload_id = await _upload_id(request, gateway, who)
    made = await gateway.store.read(lambda c: uploads.find(c, upload_id, who.tenant_id))
    if made is None:
        row = await _row(request, gateway, who, length, kind, said, upload_id)
        caps = await gateway.limits.quotas(who.tenant_id)
        await gateway.store.transact(lambda c: _enter(c, row, caps, partials))
        made = await upload_record(gateway, upload_id, who)
    headers = {
        **RESUMABLE,
        # A path, which every client resolves against the address that it asked.
        "location": f"/v1/uploads/{upload_id}",
        "upload-expires": _date(made.expires_at),
    }
    if request.headers.get("content-type") == OCTETS and kind != "final":
        # A repeat brings the same first bytes again. Where some have come, the client goes on after them.
        first = made.position == 0 and made.state == "open"
        position = await receive_bytes(request, gateway, made, None) if first else made.position
        headers["upload-offset"] = str(position)
    return await _answered(gateway, upload_id, who, 201, headers)


async def _upload_id(request: Request, gateway: Gateway, who: Principal) -> str:
    """The id of a new upload, derived from `Idempotency-Key`. Raises 409 when the key was used with other headers."""
    key = request.headers.get("idempotency-key")
    names = ("upload-length", "upload-defer-length", "upload-metadata", "upload-concat")
    said = json.dumps([request.headers.get(name) for name in names])
    return derived(await keyed_root(gateway, who, key, said), "upload")


def _enter(connection: Connection, row: dict[str, Any], caps: Quotas, partials: Sequence[str]) -> None:
    """Add an upload and reserve its place. The parts of a final upload give theirs to it. Raises `OverLimit`, and 409.

    An upload that another request with the same key has added stays as it is.
    """
    now, size = clock.unix(), row["length"] or 0
    if not uploads.enter(connection, row):
        return
    if row["concat"] == "final":
        refused = uploads.join(connection, row["id"], partials, row["tenant_id"], now)
        if refused is not None:
            reason = f"Upload-Concat: {refused[:200]} is not a complete partial upload"
            raise ApiError(409, reason, "Upload-Concat")
        size = sum(part.size for part in uploads.parts_of(connection, row["id"]))
    uploads.reserve(connection, row, caps, 0 if row["concat"] == "partial" else 1, size, now)
    if row["concat"] != "final" and row["length"] == 0:
        uploads.mark_whole(connection, row["id"], now)


def _check_length(gateway: Gateway, request: Request, length: int | None, kind: str) -> None:
    deferred = request.headers.get("upload-defer-length")
    if kind == "final":
        if length is not None or deferred is not None:
            raise ApiError(400, "Upload-Length: a final upload is as long as its parts", "Upload-Length")
    elif (length is None) == (deferred is None) or deferred not in (None, "1"):
        raise ApiError(400, "Upload-Length: either it or Upload-Defer-Length: 1 is required", "Upload-Length")
    if length is not None and length > gateway.settings.max_upload_bytes:
        raise ApiError(413, f"Upload-Length: more than {gateway.settings.max_upload_bytes} bytes", "Upload-Length")


async def _row(
    request: Request, gateway: Gateway, who: Principal, length: int | None, kind: str, said: dict[str, str], upload_id: str
) -> dict[str, Any]:
    session_id = plain_id(said.get("session_id", ""))
    if kind != "partial":
        await require_open_session(gateway, session_id, who)
    name = clean_name(said.get("filename", said.get("name", "")))
    if kind != "partial" and not name:
        raise ApiError(400, "Upload-Metadata: filename is required", "filename")
    return {
        "id": upload_id, "tenant_id": who.tenant_id, "tenant_name": who.tenancy.tenant_name,
        "user_name": who.tenancy.user_name, "session_id": session_id[:200], "file_name": name,
        "content_type": said.get("filetype", "application/octet-stream")[:200], "metadata": _metadata(said.get("metadata")),
        "said": request.headers.get("upload-metadata", ""), "length": length, "concat": kind,
        "expires_at": clock.unix() + gateway.settings.upload_ttl_s,
    }  # fmt: skip


async def require_open_session(gateway: Gateway, session_id: str, who: Principal) -> None:
    """Raises 404 for an unknown session, 409 for one that is closed or expired."""
    session = await gateway.record("session_view", session_id, who.tenant_id)
    if session is None:
        raise ApiError(404, f"Deferred Session with ID {session_id[:200]} does not exist.", "session_id")
    if session["status"] != "open":
        raise ApiError(409, f"Deferred Session with ID {session_id} is {session['status']}.", "session_id")


def _metadata(value: str | None) -> Any:
    if not value:
        return None
    try:
        return check_metadata(json.loads(value))
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"metadata: {error}"[:500], "metadata") from None


async def upload_record(gateway: Gateway, upload_id: str, who: Principal) -> Any:
    """The tenant's upload. Raises 404."""
    row = await gateway.store.read(lambda c: uploads.find(c, upload_id, who.tenant_id))
    if row is None:
        raise ApiError(404, f"Upload {upload_id[:80]} does not exist, or has expired.")
    return row


@router.head("/{upload_id}", summary="Offset of an upload", operation_id="getUploadOffset")
async def status(upload_id: str, request: Request, gateway: GatewayDep, who: Writer) -> Response:
    """`Upload-Offset` and `Upload-Length`; `Stageline-File-Id` once the file exists, `Stageline-Error` when the upload has
    failed."""
    require_version(request)
    row = await upload_record(gateway, upload_id, who)
    headers = {
        **RESUMABLE,
        "cache-control": "no-store",
        "upload-offset": str(row.position),
        "upload-expires": _date(row.expires_at),
    }
    headers |= {"upload-length": str(row.length)} if row.length is not None else {"upload-defer-length": "1"}
    if row.said:
        headers["upload-metadata"] = row.said
    if row.concat:
        headers["upload-concat"] = row.concat
    return Response(status_code=200, headers={**headers, **_outcome(row)})


def _outcome(row: Any) -> dict[str, str]:
    if row.state == "done":
        return {"stageline-file-id": uploads.file_id_of(row.id)}
    return {"stageline-error": row.code or "failed"} if row.state == "failed" else {}


@router.patch("/{upload_id}", status_code=204, summary="Bring bytes", operation_id="appendToUpload")
async def append(upload_id: str, request: Request, gateway: GatewayDep, who: Writer) -> Response:
    """Appends bytes at `Upload-Offset`. 409 for another offset, 460 for a wrong `Upload-Checksum`.

    Bytes of an interrupted request are kept, unless it has a checksum.
    """
    require_version(request)
    if request.headers.get("content-type") != OCTETS:
        raise ApiError(415, f"Content-Type: {OCTETS} is expected", "Content-Type")
    try:
        offset = tus.number(request.headers, "upload-offset")
        length = tus.number(request.headers, "upload-length")
        checksum = tus.checksum(request.headers.get("upload-checksum"))
    except tus.BadHeader as error:
        raise bad_header(error) from None
    row = await upload_record(gateway, upload_id, who)
    if row.concat == "final":
        raise ApiError(403, "A final upload has no bytes of its own.")
    if offset != row.position or row.state != "open":
        raise ApiError(409, f"Upload-Offset: {row.position} is expected", "Upload-Offset")
    if length is not None:
        row = await _with_length(gateway, row, who, length)
    position = await receive_bytes(request, gateway, row, checksum)
    headers = {**RESUMABLE, "upload-offset": str(position), "upload-expires": _date(clock.unix() + gateway.settings.upload_ttl_s)}
    return await _answered(gateway, upload_id, who, 204, headers)


async def _with_length(gateway: Gateway, row: Any, who: Principal, length: int) -> Any:
    """The upload, whose deferred length is `length`. Raises 400 when more has come, or when its length is another one; 413, `OverLimit`."""
    if length > gateway.settings.max_upload_bytes:
        raise ApiError(413, f"Upload-Length: more than {gateway.settings.max_upload_bytes} bytes", "Upload-Length")
    if row.length is None and length >= row.position:
        await gateway.limits.grow(who.tenant_id, row.id, length)
        await gateway.store.transact(lambda c: uploads.set_length(c, row.id, length))
        row = await upload_record(gateway, row.id, who)
    if row.length is None:
        raise ApiError(400, f"Upload-Length: {row.position} bytes have come already", "Upload-Length")
    if row.length != length:
        raise ApiError(400, f"Upload-Length: it is {row.length}, and cannot change", "Upload-Length")
    return row


async def _answered(gateway: Gateway, upload_id: str, who: Principal, code: int, headers: dict[str, str]) -> Response:
    row = await await_file(gateway, upload_id, who)
    return Response(status_code=code, headers={**headers, **_outcome(row)})


async def await_file(gateway: Gateway, upload_id: str, who: Principal) -> Any:
    """The upload's row. After the last byte, waits (bounded) until the file is in its session. Raises 409 when the upload failed."""
    now = clock.unix()
    await gateway.store.transact(lambda c: uploads.mark_whole(c, upload_id, now))
    row = await upload_record(gateway, upload_id, who)
    if row.state == "whole":
        gateway.upload_wake.set()
        ended = text("SELECT 1 FROM upload WHERE id = :i AND state IN ('done', 'failed')")
        await gateway.decisions.wait_until(
            lambda c: c.execute(ended, {"i": upload_id}).scalar(), gateway.settings.decision_timeout_s, True
        )
        row = await upload_record(gateway, upload_id, who)
    if row.state == "failed":
        raise ApiError(409, f"The upload did not become a file: {row.message}", "session_id", code=row.code)
    return row


@router.delete("/{upload_id}", status_code=204, summary="Terminate an upload", operation_id="deleteUpload")
async def terminate(upload_id: str, request: Request, gateway: GatewayDep, who: Writer) -> Response:
    """Deletes the uploaded bytes; a file that was made of them stays. 409 while the file is being made."""
    require_version(request)
    row = await upload_record(gateway, upload_id, who)
    if row.state == "whole":
        raise ApiError(409, "The upload is complete and its file is being made.")
    await gateway.discard_objects(await gateway.store.transact(lambda c: uploads.forget(c, upload_id)))
    return Response(status_code=204, headers=RESUMABLE)


@router.post("/{upload_id}", include_in_schema=False)
async def overridden(upload_id: str, request: Request, gateway: GatewayDep, who: Writer) -> Response:
    """`X-HTTP-Method-Override`, for clients behind a proxy that allows only GET and POST."""
    method = request.headers.get("x-http-method-override", "").upper()
    verbs: dict[str, Any] = {"PATCH": append, "DELETE": terminate, "HEAD": status}
    if method not in verbs:
        raise ApiError(405, "X-HTTP-Method-Override: PATCH, DELETE or HEAD is expected", "X-HTTP-Method-Override")
    answer: Response = await verbs[method](upload_id, request, gateway, who)
    return answer


def _date(at: float) -> str:
    return format_datetime(datetime.fromtimestamp(at, UTC), usegmt=True)
