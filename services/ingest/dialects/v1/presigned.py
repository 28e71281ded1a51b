"""Uploads straight to the object store, if it can presign URLs (S3, GCS, Azure)."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from contracts.ownership import INCOMING
from services.ingest.adapters.store import uploads
from services.ingest.core.fields import Id, Meta, Whole
from services.ingest.core.file_names import clean_name
from services.ingest.dialects.v1.tus import await_file, require_open_session, upload_record
from services.ingest.http.answers.accounts import CompletedUpload, PresignedUpload
from services.ingest.http.dependencies import GatewayDep, Writer
from services.ingest.http.errors import ApiError
from shared import clock
from shared.objects.access import ObjectMissing
from shared.web.openapi import answered

router = APIRouter(prefix="/v1/uploads", tags=["Uploads"], max_body_size=256 << 10)
SIGNED_S = 3600


class Presign(BaseModel):
    """The file to upload."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "session_id": "0f767925-b464-4ffa-b621-1a0aeacac256",
                    "file_name": "invoice-17.pdf",
                    "size": 48213,
                    "content_type": "application/pdf",
                }
            ]
        },
    )

    session_id: Id = Field(min_length=1)
    file_name: str = Field(min_length=1, max_length=255)
    size: Whole = Field(ge=0)
    content_type: str = Field(default="application/octet-stream", max_length=200)
    metadata: Meta = None


@router.post(
    "/presigned",
    status_code=201,
    summary="Presign an upload",
    operation_id="presignUpload",
    responses=answered(PresignedUpload, 201),
)
async def presign(gateway: GatewayDep, who: Writer, body: Annotated[Presign, Body()]) -> dict[str, Any]:
    """PUT the bytes to `url` within an hour, then call `POST /v1/uploads/{upload_id}/complete`.

    409 when the object store cannot presign URLs; use tus then.
    """
    if body.size > gateway.settings.max_upload_bytes:
        raise ApiError(413, f"size: more than {gateway.settings.max_upload_bytes} bytes", "size")
    await require_open_session(gateway, body.session_id, who)
    name = clean_name(body.file_name)
    if not name:
        raise ApiError(400, "file_name: a name is expected", "file_name")
    upload_id = clock.new_root()
    blob = f"{INCOMING}{who.tenant_id}/{upload_id}/{0:016d}"
    url = await gateway.objects.of(who.tenant_id).presigned_put_url(blob, timedelta(seconds=SIGNED_S))
    if url is None:
        raise ApiError(
            409, "This object store cannot presign URLs. Use a resumable upload (POST /v1/uploads).", code="not_supported"
        )
    row = {
        "id": upload_id, "tenant_id": who.tenant_id, "tenant_name": who.tenancy.tenant_name, "user_name": who.tenancy.user_name,
        "session_id": body.session_id, "file_name": name, "content_type": body.content_type, "metadata": body.metadata, "said": "",
        "length": body.size, "concat": "", "expires_at": clock.unix() + gateway.settings.upload_ttl_s,
    }  # fmt: skip
    caps = await gateway.limits.quotas(who.tenant_id)

    def enter(connection: Connection) -> None:
        uploads.reserve(connection, row, caps, 1, body.size, clock.unix())
        uploads.enter(connection, row)

    await gateway.store.transact(enter)
    return {"upload_id": upload_id, "method": "PUT", "url": url, "expires_in": SIGNED_S}


@router.post(
    "/{upload_id}/complete",
    summary="Complete a presigned upload",
    operation_id="completeUpload",
    responses=answered(CompletedUpload),
)
async def complete(upload_id: str, request: Request, gateway: GatewayDep, who: Writer) -> dict[str, str]:
    """Adds the file to its session. 409 when the bytes are missing, or differ in size from the announcement."""
    row = await upload_record(gateway, upload_id, who)
    blob = f"{INCOMING}{row.tenant_id}/{row.id}/{0:016d}"
    if row.state == "open" and row.position == 0:
        try:
            size = await gateway.objects.of(who.tenant_id).object_size(blob)
        except ObjectMissing:
            raise ApiError(409, f"Upload {upload_id}: no bytes are uploaded yet") from None
        if size != row.length:
            raise ApiError(409, f"Upload {upload_id}: {size} bytes were uploaded, {row.length} were announced")
        part = uploads.Part(0, size, blob)
        await gateway.store.transact(lambda c: uploads.advance(c, upload_id, 0, [part], row.expires_at))
    row = await await_file(gateway, upload_id, who)
    if row.state != "done":
        raise ApiError(
            503, "The upload was taken but its file does not show yet. Repeating the request is safe.", retry_after_s=5
        )
    return {"file_id": uploads.file_id_of(upload_id)}
