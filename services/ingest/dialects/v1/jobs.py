"""Jobs in our own API: create one with your own id or key, search jobs, save searches."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import text

from contracts import CreateJob, JobRequest, derived
from services.ingest.adapters.admission import admit
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store.job_search import find
from services.ingest.adapters.store.operations import rows_of
from services.ingest.adapters.store.reservations import HOLD_S, REMOTE_HOLD_S, job_place
from services.ingest.core.fields import Arguments, Meta, Moment, Whole, WorkflowName
from services.ingest.core.job_filter import Filter
from services.ingest.http.answers.jobs import CreatedJob, JobPage, SavedQueries, SavedQuery
from services.ingest.http.commands import ID_TAKEN, create_job
from services.ingest.http.dependencies import GatewayDep, Reader, Writer
from services.ingest.http.errors import ApiError
from services.ingest.http.idempotency import keyed_root, root_of
from services.ingest.http.known_workflows import require_workflow
from services.ingest.http.parameters import require_open
from services.ingest.http.prefer_wait import place_to_wait, preferred_wait, wait_if_preferred
from services.ingest.http.remote_files import remote_file, remote_places
from shared import clock
from shared.web.api_keys import Principal
from shared.web.openapi import REPEATABLE_AND_WAITING, answered

router = APIRouter(prefix="/v1", tags=["Jobs"], max_body_size=1 << 20)


class NewJob(BaseModel):
    """A job from remote files, or without files. To use your own files, upload them into a session (`POST /api/job/create`)."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "workflow": "documents",
                    "urls": ["https://files.example.com/invoice-17.pdf"],
                    "job_key": "order-17",
                    "metadata": {"customer": "acme"},
                }
            ]
        },
    )

    job_id: uuid.UUID | None = Field(
        default=None,
        description="Your own id, a UUID of version 1 or 7. Repeating the call with the same id returns the same job.",
    )
    workflow: WorkflowName = "documents"
    workflow_version: Whole | None = Field(default=None, ge=1)
    urls: list[Annotated[str, Field(max_length=2048)]] = Field(default_factory=list, max_length=100)
    metadata: Meta = None
    priority: Literal["low", "normal", "high"] = "normal"
    job_key: str | None = Field(default=None, min_length=1, max_length=200)
    start_at: Moment | None = None
    args: Arguments | None = None


@router.post(
    "/jobs",
    status_code=201,
    summary="Create a job",
    operation_id="createJob",
    responses=answered(CreatedJob, 201),
    openapi_extra=REPEATABLE_AND_WAITING,
)
async def create(
    request: Request, response: Response, gateway: GatewayDep, who: Writer, body: Annotated[NewJob, Body()]
) -> dict[str, Any]:
    """`job_id`, or the `Idempotency-Key` header (kept two years), makes the call repeatable: the same body returns the same job,
    another body is 409.

    With `Prefer: wait=N` (at most 60 seconds) the answer comes as soon as the job has ended.
    """
    with place_to_wait(gateway, who, preferred_wait(request)):
        return await _create(request, response, gateway, who, body)


async def _create(request: Request, response: Response, gateway: Gateway, who: Principal, body: NewJob) -> dict[str, Any]:
    if body.job_id is not None and body.job_id.version not in (1, 7):
        raise ApiError(400, "job_id: a UUID of version 1 or 7 is expected", "job_id")
    key = request.headers.get("idempotency-key") or (f"job_id:{body.job_id}" if body.job_id else None)
    repeated = str(body.job_id) if body.job_id else derived(root_of(who, key), "job") if key else None
    await require_workflow(gateway, who, body.workflow, body.workflow_version, repeated)
    await require_open(gateway, who, body.workflow, body.workflow_version, body.args)
    root = await keyed_root(gateway, who, key, body.model_dump_json())
    job_id = str(body.job_id) if body.job_id else derived(root, "job")
    fields = body.model_dump(exclude={"job_id", "urls"})
    command = CreateJob(
        command_id=derived(root, "create"), job_id=job_id, owner=who.tenancy, issued_at=clock.now(), job=JobRequest(**fields),
        files=tuple(remote_file(root, i, url, None) for i, url in enumerate(body.urls)),
    )  # fmt: skip
    places = [job_place(job_id), *remote_places(gateway, command.files)]
    async with admit(gateway, who.tenant_id, places, REMOTE_HOLD_S if body.urls else HOLD_S) as admission:
        record = await create_job(request, gateway, command, f"Job {job_id}", key is not None, admission)
        if record is None:
            raise ApiError(409, ID_TAKEN, "job_id")
    record = await wait_if_preferred(request, response, gateway, job_id) or record
    response.headers["location"] = f"/v1/jobs/{job_id}"
    return {"job_id": job_id, "stage": record["stage"], "file_ids": [f.file_id for f in command.files]}


class Page(Filter):
    """A filter and the page to return."""

    cursor: str | None = Field(default=None, max_length=500)
    limit: int = Field(default=50, ge=1, le=200)


@router.get("/jobs", summary="Find jobs", operation_id="findJobs", responses=answered(JobPage))
async def search(gateway: GatewayDep, who: Reader, query: Annotated[Page, Query()]) -> dict[str, Any]:
    """One page of the jobs that fit. `next` is the cursor of the next page; jobs that come or go in between shift nothing."""
    wanted = query.query(who.tenant_id, clock.unix(), query.cursor)
    found, following = await gateway.store.read(lambda c: find(c, wanted, query.limit))
    return {"result": found, "next": following}


@router.put("/queries/{name}", summary="Save a search", operation_id="saveQuery", responses=answered(SavedQuery))
async def save_query(name: str, gateway: GatewayDep, who: Writer, body: Annotated[Filter, Body()]) -> dict[str, Any]:
    """Saves the filter under `name`. A filter with the same name is replaced."""
    if not 0 < len(name) <= 100:
        raise ApiError(400, "name: 1 to 100 characters are expected", "name")
    body.query(who.tenant_id, clock.unix())
    save = text(
        "INSERT INTO saved_query (tenant_id, name, body) VALUES (:t, :n, :b) ON CONFLICT (tenant_id, name) DO UPDATE SET body = excluded.body"
    )
    values = {"t": who.tenant_id, "n": name, "b": body.model_dump_json(exclude_defaults=True)}
    await gateway.store.transact(lambda c: c.execute(save, values))
    return {"name": name, "filter": body.model_dump(mode="json", exclude_defaults=True)}


@router.get("/queries", summary="Saved searches", operation_id="listQueries", responses=answered(SavedQueries))
async def queries(gateway: GatewayDep, who: Reader) -> dict[str, Any]:
    """All saved searches of the tenant."""
    rows = text("SELECT name, body FROM saved_query WHERE tenant_id = :t ORDER BY name")
    found = await gateway.store.read(lambda c: c.execute(rows, {"t": who.tenant_id}).all())
    return {
        "result": [
            {"name": r.name, "filter": Filter.model_validate_json(r.body).model_dump(mode="json", exclude_defaults=True)}
            for r in found
        ]
    }


@router.get("/queries/{name}/jobs", summary="Run a saved search", operation_id="runQuery", responses=answered(JobPage))
async def run_query(
    name: str, gateway: GatewayDep, who: Reader, cursor: Annotated[str | None, Query(max_length=500)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> dict[str, Any]:  # fmt: skip
    """The same as `GET /v1/jobs` with the saved filter."""
    values = {"t": who.tenant_id, "n": name}
    saved = await gateway.store.read(
        lambda c: rows_of(c, "SELECT body FROM saved_query WHERE tenant_id = :t AND name = :n", values)
    )
    if not saved:
        raise ApiError(404, f"There is no saved search {name}.")
    wanted = Filter.model_validate(saved[0]).query(who.tenant_id, clock.unix(), cursor)
    found, following = await gateway.store.read(lambda c: find(c, wanted, limit))
    return {"result": found, "next": following}


@router.delete("/queries/{name}", status_code=204, summary="Delete a saved search", operation_id="deleteQuery")
async def forget_query(name: str, gateway: GatewayDep, who: Writer) -> None:
    """204 also when there is none with this name."""
    drop = text("DELETE FROM saved_query WHERE tenant_id = :t AND name = :n")
    await gateway.store.transact(lambda c: c.execute(drop, {"t": who.tenant_id, "n": name}))
