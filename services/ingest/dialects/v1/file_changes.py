"""What people do to files, under /v1: correct and delete values, take away a tag or a property, recycle, restore, move."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from contracts import (
    DeleteFileProperty,
    DeleteFileValue,
    MoveFile,
    RecycleFile,
    RemoveFileTag,
    RestoreFile,
    SetFileValue,
    derived,
)
from contracts.file_commands import Value
from services.ingest.adapters.gateway import Gateway
from services.ingest.http.answers.records import ChangedFile, FileRecord
from services.ingest.http.commands import send_command
from services.ingest.http.dependencies import GatewayDep, Operator, Reader
from services.ingest.http.errors import ApiError
from services.ingest.http.idempotency import keyed_root
from services.ingest.http.records import file_record
from shared import clock
from shared.web.api_keys import Principal
from shared.web.openapi import REPEATABLE, answered

router = APIRouter(prefix="/v1", tags=["Files"], max_body_size=128 << 10)
Name = Annotated[str, Path(min_length=1, max_length=200)]
Reason = Annotated[str, Query(max_length=1000, description="Appears in the file's events and in the audit.")]


class ChangeReason(BaseModel):
    """`reason` appears in the file's events and in the audit."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(default="", max_length=1000)


class Correction(ChangeReason):
    """The right value, as any JSON except null."""

    value: Value = Field(examples=["1250.00"])


class Move(ChangeReason):
    """The job that gets the file. It has ended, as the file's job has."""

    to_job_id: str = Field(min_length=1, max_length=200)


async def _change(
    request: Request, gateway: Gateway, who: Principal, kind: Any, file_id: str, reason: str, **fields: Any
) -> dict[str, Any]:
    """Send a command about a file; returns the file's record after it."""
    record = await file_record(gateway, file_id, who)
    if record["job_id"] is None:
        raise ApiError(409, f"File with ID {file_id} belongs to no job yet.")
    key = request.headers.get("idempotency-key")
    body = f"{request.method} {request.url.path} {fields!r} {reason}"
    root = derived(await keyed_root(gateway, who, key, body), "change") if key else clock.new_root()
    command = kind(
        command_id=root,
        job_id=record["job_id"],
        file_id=file_id,
        owner=who.tenancy,
        issued_at=clock.now(),
        reason=reason,
        **fields,
    )
    await send_command(request, gateway, command, "The change")
    return {**await file_record(gateway, file_id, who), "command_id": root}


@router.get("/files/{file_id}", summary="A file", operation_id="getFile", responses=answered(FileRecord))
async def file(file_id: str, gateway: GatewayDep, who: Reader) -> dict[str, Any]:
    """The file's whole record: `fields` with its extracted values, its tag, its `properties`, its `folder`, and `recycled_at` while it
    is in the recycle bin."""
    return await file_record(gateway, file_id, who)


@router.patch(
    "/files/{file_id}/values/{name:path}",
    summary="Correct an extracted value",
    operation_id="correctValue",
    responses=answered(ChangedFile),
    openapi_extra=REPEATABLE,
)
async def set_value(
    file_id: str, name: Name, request: Request, gateway: GatewayDep, who: Operator, body: Annotated[Correction, Body()]
) -> dict[str, Any]:
    """Corrects the value, or adds one that was not extracted. Answers with the file's record.

    With an `Idempotency-Key` a repeated request changes nothing. 409 while a step of the file runs, and for a recycled file.
    """
    return await _change(request, gateway, who, SetFileValue, file_id, body.reason, name=name, value=body.value)


@router.delete(
    "/files/{file_id}/values/{name:path}",
    summary="Delete an extracted value",
    operation_id="deleteValue",
    responses=answered(ChangedFile),
    openapi_extra=REPEATABLE,
)
async def delete_value(
    file_id: str, name: Name, request: Request, gateway: GatewayDep, who: Operator, reason: Reason = ""
) -> dict[str, Any]:
    """Answers with the file's record. 404 when the file has no such value."""
    return await _change(request, gateway, who, DeleteFileValue, file_id, reason, name=name)


@router.delete(
    "/files/{file_id}/properties/{name:path}",
    summary="Delete a property of a file",
    operation_id="deleteProperty",
    responses=answered(ChangedFile),
    openapi_extra=REPEATABLE,
)
async def delete_property(
    file_id: str, name: Name, request: Request, gateway: GatewayDep, who: Operator, reason: Reason = ""
) -> dict[str, Any]:
    """Answers with the file's record. 404 when the file has no such property."""
    return await _change(request, gateway, who, DeleteFileProperty, file_id, reason, name=name)


@router.delete(
    "/files/{file_id}/tag",
    summary="Take the tag away from a file",
    operation_id="removeTag",
    responses=answered(ChangedFile),
    openapi_extra=REPEATABLE,
)
async def remove_tag(file_id: str, request: Request, gateway: GatewayDep, who: Operator, reason: Reason = "") -> dict[str, Any]:
    """Answers with the file's record. Searches by the tag do not find the file any more. 404 when it has none."""
    return await _change(request, gateway, who, RemoveFileTag, file_id, reason)


@router.post(
    "/files/{file_id}/recycle",
    summary="Move a file to the recycle bin",
    operation_id="recycleFile",
    responses=answered(ChangedFile),
    openapi_extra=REPEATABLE,
)
async def recycle(
    file_id: str, request: Request, gateway: GatewayDep, who: Operator, body: Annotated[ChangeReason | None, Body()] = None
) -> dict[str, Any]:
    """The file is erased after 30 days (`STAGELINE_RECYCLE_DAYS`). Until then it can be downloaded and restored. Answers with its
    record. 409 when its job has not ended."""
    return await _change(request, gateway, who, RecycleFile, file_id, body.reason if body else "")


@router.post(
    "/files/{file_id}/restore",
    summary="Move a file back from the recycle bin",
    operation_id="restoreFile",
    responses=answered(ChangedFile),
    openapi_extra=REPEATABLE,
)
async def restore(
    file_id: str, request: Request, gateway: GatewayDep, who: Operator, body: Annotated[ChangeReason | None, Body()] = None
) -> dict[str, Any]:
    """Answers with the file's record. 409 when it is not in the recycle bin."""
    return await _change(request, gateway, who, RestoreFile, file_id, body.reason if body else "")


@router.post(
    "/files/{file_id}/move",
    summary="Move a file to another job",
    operation_id="moveFile",
    responses=answered(ChangedFile),
    openapi_extra=REPEATABLE,
)
async def move(
    file_id: str, request: Request, gateway: GatewayDep, who: Operator, body: Annotated[Move, Body()]
) -> dict[str, Any]:
    """The file is `pending` in the other job, without tag, values and text, until `POST /v1/jobs/{id}/rerun` processes it there.
    Answers with its record. 409 when one of the jobs has not ended."""
    if await gateway.record("job_view", body.to_job_id, who.tenant_id) is None:
        raise ApiError(404, f"to_job_id: Job with ID {body.to_job_id} does not exist.", "to_job_id")
    return await _change(request, gateway, who, MoveFile, file_id, body.reason, to_job_id=body.to_job_id)
