"""What a worker outside reads and stores during one attempt, by the address in its task. The address is the credential."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from sqlalchemy import Connection
from starlette.responses import Response

from contracts import JobStage
from contracts.ownership import CONTENT
from contracts.work import MAX_OUTPUTS
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store import object_claims, tenant_erasures
from services.ingest.adapters.store import read_model as rm
from services.ingest.adapters.store.erasures import erased
from services.ingest.core.file_names import clean_name
from services.ingest.core.media_type import is_media_type
from services.ingest.http.answers.records import Output
from services.ingest.http.audit_trail import DOWNLOAD
from services.ingest.http.dependencies import GatewayDep
from services.ingest.http.download import OCTETS, send
from services.ingest.http.errors import ApiError
from shared import clock
from shared.task_grants import TaskGrant
from shared.web.openapi import answered

router = APIRouter(prefix="/v1/tasks/{token}", tags=["Workers"])
MOST_OUTPUTS = 5 * MAX_OUTPUTS
"""Outputs that may be stored for one file, or for one job's own steps, in a day. A result names `MAX_OUTPUTS` at most; attempts may repeat."""
OVER = "The address does not exist or has expired. The next attempt of the step has a new one."


async def _open(gateway: Gateway, token: str) -> TaskGrant:
    """What the token grants. Raises 404 for one that is over, or whose job has ended or is erased."""
    grant = gateway.task_seal.grant(token, clock.unix()) if gateway.task_seal is not None else None
    if grant is None or await gateway.store.read(lambda c: _is_over(c, grant)):
        raise ApiError(404, OVER)
    return grant


def _is_over(connection: Connection, grant: TaskGrant) -> bool:
    if erased(connection, [grant.job_id]) or tenant_erasures.is_erased(connection, grant.tenant_id):
        return True
    # The read model may not have a job yet whose first task is out already.
    job = rm.records(connection, "job_view", [grant.job_id]).get(grant.job_id)
    return job is not None and (job["company_id"] != grant.tenant_id or JobStage(job["stage"]).terminal)


@router.get(
    "/objects/{blob:path}",
    summary="Read an object of a task",
    operation_id="readTaskObject",
    response_class=Response,
    dependencies=[DOWNLOAD],
)
async def read_object(token: str, blob: str, request: Request, gateway: GatewayDep) -> Response:
    """`blob` is a `blob_name` in the task. No key is needed; the address ends with the attempt and with the job."""
    grant = await _open(gateway, token)
    if CONTENT.fullmatch(blob) is None:
        raise ApiError(404, "There is no such object.")
    return await send(request, gateway.objects.of(grant.tenant_id), blob, blob.rpartition("/")[2], OCTETS)


@router.put(
    "/outputs/{file_name}", status_code=201, summary="Store an output of a task", operation_id="storeTaskOutput",
    responses=answered(Output, 201),
)  # fmt: skip
async def store_output(
    token: str,
    file_name: Annotated[str, Path(min_length=1, max_length=255)],
    request: Request,
    gateway: GatewayDep,
    category: Annotated[str | None, Query(max_length=100)] = None,
) -> dict[str, Any]:
    """The body is the file. The answer is an entry for `outputs` in the step's result; without it the file is deleted after a day.

    413 for a file above the limit of an upload, 409 for more files than a few attempts can need.
    """
    grant = await _open(gateway, token)
    name, said = clean_name(file_name), request.headers.get("content-type", OCTETS)
    if not name:
        raise ApiError(400, "file_name: a name is expected", "file_name")
    if not is_media_type(said):
        raise ApiError(415, "Content-Type: a media type is expected")
    # Claimed for what the erasure of the job looks at, so that it takes an output that no report names.
    owner = grant.file_id or grant.job_id
    if await gateway.store.read(lambda c: object_claims.claims_of(c, owner)) >= MOST_OUTPUTS:
        raise ApiError(409, f"{MOST_OUTPUTS} outputs are stored in a day for this file or job already.", code="too_many_outputs")
    objects = gateway.claiming(grant.tenant_id, owner, grant.job_id)
    stored = await objects.put_stream(request.stream(), gateway.settings.max_file_bytes)
    if await gateway.store.transact(lambda c: _drop_if_over(c, grant, stored.name, owner)):
        gateway.deletion_wake.set()
        raise ApiError(404, OVER)
    found = {"file_name": name, "blob_name": stored.name, "size": stored.size, "sha256": stored.sha256, "content_type": said}
    return found if category is None else {**found, "category": category}


def _drop_if_over(connection: Connection, grant: TaskGrant, blob: str, owner: str) -> bool:
    over = _is_over(connection, grant)
    if over:
        object_claims.unclaim(connection, blob, owner, clock.unix())
    return over
