"""Jobs in our own API: make one under an id or key of the caller's, find them again, save a search."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection, text

from contracts import CreateJob, JobRequest, derived
from contracts.loose import check_json
from contracts.topics import JOB_COMMANDS_TOPIC
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store.job_search import Wanted, find, read_cursor
from services.ingest.adapters.store.operations import rows_of
from services.ingest.core.job_view import meta_term
from services.ingest.dialects.alfred.bodies import Meta, WorkflowName
from services.ingest.dialects.alfred.jobs import job_record
from services.ingest.dialects.alfred.remote_jobs import remote_file, taken
from services.ingest.dialects.v1.strict import Measured, Moment, Stage, Whole
from services.ingest.http.dependencies import GatewayDep, Reader, Writer
from services.ingest.http.errors import ApiError
from services.ingest.http.prefer_wait import until_ended
from shared import clock
from shared.web.api_keys import Principal
from shared.web.middleware import trace_of

router = APIRouter(prefix="/v1", tags=["Jobs"], max_body_size=1 << 20)


class NewJob(BaseModel):
    """A job of remote files, or of none. Files of one's own are uploaded into a session first (`POST /api/job/create`)."""

    model_config = ConfigDict(extra="forbid")

    job_id: uuid.UUID | None = Field(
        default=None, description="The caller's own id, a UUID of version 1 or 7: the same again is the same job"
    )
    workflow: WorkflowName = "documents"
    workflow_version: Whole | None = Field(default=None, ge=1)
    urls: list[Annotated[str, Field(max_length=2048)]] = Field(default_factory=list, max_length=100)
    metadata: Meta = None
    priority: Literal["low", "normal", "high"] = "normal"
    job_key: str | None = Field(default=None, min_length=1, max_length=200)
    start_at: Moment | None = None
    args: dict[str, dict[str, Any]] | None = None


@router.post("/jobs", status_code=201, summary="Make a job")
async def create(
    request: Request, response: Response, gateway: GatewayDep, who: Writer, body: Annotated[NewJob, Body()]
) -> dict[str, Any]:
    """Taken once, however often it is sent: by `job_id`, or by the `Idempotency-Key` header (kept two years). The same with another
    body is 409. With `Prefer: wait=N` (at most 60 seconds) the answer comes as soon as the job has ended."""
    if body.job_id is not None and body.job_id.version not in (1, 7):
        raise ApiError(400, "job_id: a UUID of version 1 or 7 is expected", "job_id")
    check_json(body.args)
    await gateway.limits.open_job(who.tenant_id)
    key = request.headers.get("idempotency-key") or (f"job_id:{body.job_id}" if body.job_id else None)
    root = await taken(gateway, who, key, body.model_dump_json())
    job_id = str(body.job_id) if body.job_id else derived(root, "job")
    await not_erased(gateway, job_id)
    wish = body.model_dump(exclude={"job_id", "urls"})
    command = CreateJob(
        command_id=derived(root, "create"), job_id=job_id, owner=who.tenancy, issued_at=clock.now(), job=JobRequest(**wish),
        files=tuple(remote_file(root, i, url, None) for i, url in enumerate(body.urls)),
    )  # fmt: skip
    await gateway.publisher.publish(JOB_COMMANDS_TOPIC.name, command, trace_of(request))
    await _shown(gateway, who, command)
    record = await until_ended(request, response, gateway, job_id) or await job_record(gateway, job_id, who)
    response.headers["location"] = f"/v1/jobs/{job_id}"
    return {"job_id": job_id, "stage": record["stage"], "file_ids": [f.file_id for f in command.files]}


async def not_erased(gateway: Gateway, job_id: str) -> None:
    """Raises 409 for a job that was erased: its id is not given away again."""
    gone = text("SELECT 1 FROM erased WHERE job_id = :j")
    if await gateway.store.read(lambda c: c.execute(gone, {"j": job_id}).first()) is not None:
        raise ApiError(409, f"job_id: job {job_id} was erased; its id cannot be used again", "job_id")


async def _shown(gateway: Gateway, who: Principal, command: CreateJob) -> None:
    """Until the job can be read. Raises 409 when the id is somebody else's, 503 when nothing shows in time; the command is taken then."""
    mine = text("SELECT 1 FROM job_view WHERE id = :i AND tenant_id = :t")
    refusal = text("SELECT 1 FROM decision WHERE command_id = :c")

    def look(connection: Connection) -> str | None:
        if connection.execute(mine, {"i": command.job_id, "t": who.tenant_id}).first():
            return "there"
        return "refused" if connection.execute(refusal, {"c": command.command_id}).first() else None

    found = await gateway.decisions.until(look, gateway.settings.decision_timeout_s)
    if found == "refused":
        raise ApiError(409, f"job_id: there is another job {command.job_id}", "job_id")
    if found is None:
        raise ApiError(
            503, f"Job {command.job_id} was taken but does not show yet. Repeating the request is safe.", retry_after_s=5
        )


class Filter(BaseModel):
    """What a search asks for; everything given must hold."""

    model_config = ConfigDict(extra="forbid")

    stage: list[Stage] = Field(default_factory=list, max_length=16)
    workflow: str | None = Field(default=None, max_length=200, description="`name@version`")
    tag: str | None = Field(default=None, max_length=200)
    file_name: str | None = Field(default=None, max_length=255, description="Of one of its files, in any case")
    error_code: str | None = Field(default=None, max_length=100)
    job_key: str | None = Field(default=None, max_length=200)
    parent_job_id: str | None = Field(default=None, max_length=200)
    rerun_of: str | None = Field(default=None, max_length=200)
    metadata: list[str] = Field(default_factory=list, max_length=10, description="`key=value`, on the first level")
    text: str | None = Field(default=None, max_length=1000, description="Words in one of its files")
    created_after: Moment | None = None
    created_before: Moment | None = None
    in_stage_for_s: Measured | None = Field(default=None, ge=0, description="At least so long in its stage")
    sort: Literal["-created_at", "created_at", "stage_since"] = "-created_at"

    def wanted(self, tenant: str, cursor: str | None = None) -> Wanted:
        """As the search takes it. Raises `ApiError` for what it cannot do."""
        terms = [f"tag:{self.tag}"] if self.tag else []
        terms += [f"file:{self.file_name.lower()}"] if self.file_name else []
        terms += [f"error:{self.error_code}"] if self.error_code else []
        names = ("job_key", "parent_job_id", "rerun_of")
        terms += [f"{name}:{getattr(self, name)}" for name in names if getattr(self, name)]
        for pair in self.metadata:
            key, equals, value = pair.partition("=")
            if not equals:
                raise ApiError(400, "metadata: key=value is expected", "metadata")
            terms.append(meta_term(key, value))
        if self.sort == "stage_since" and len(self.stage) != 1:
            raise ApiError(400, "sort: stage_since needs exactly one stage", "sort")
        try:
            after = read_cursor(cursor) if cursor else None
        except ValueError as error:
            raise ApiError(400, f"cursor: {error}", "cursor") from None
        return Wanted(
            tenant, tuple(self.stage), self.workflow, tuple(terms), self.text, _unix(self.created_after),
            _unix(self.created_before), None if self.in_stage_for_s is None else clock.unix() - self.in_stage_for_s, self.sort, after,
        )  # fmt: skip


def _unix(at: datetime | None) -> float | None:
    return at.timestamp() if at is not None else None


class Page(Filter):
    """A filter and the page of it."""

    cursor: str | None = Field(default=None, max_length=500)
    limit: int = Field(default=50, ge=1, le=200)


@router.get("/jobs", summary="Find jobs")
async def search(gateway: GatewayDep, who: Reader, query: Annotated[Page, Query()]) -> dict[str, Any]:
    """A page of the jobs that fit; `next` is the cursor of the following page. Pages stay right while jobs come and go."""
    wanted = query.wanted(who.tenant_id, query.cursor)
    found, following = await gateway.store.read(lambda c: find(c, wanted, query.limit))
    return {"result": found, "next": following}


@router.put("/queries/{name}", summary="Save a search")
async def save_query(name: str, gateway: GatewayDep, who: Writer, body: Annotated[Filter, Body()]) -> dict[str, Any]:
    """Under a name of the tenant's; it replaces what had that name."""
    if not 0 < len(name) <= 100:
        raise ApiError(400, "name: 1 to 100 characters are expected", "name")
    body.wanted(who.tenant_id)
    save = text(
        "INSERT INTO saved_query (tenant_id, name, body) VALUES (:t, :n, :b) ON CONFLICT (tenant_id, name) DO UPDATE SET body = excluded.body"
    )
    values = {"t": who.tenant_id, "n": name, "b": body.model_dump_json(exclude_defaults=True)}
    await gateway.store.transact(lambda c: c.execute(save, values))
    return {"name": name, "filter": body.model_dump(mode="json", exclude_defaults=True)}


@router.get("/queries", summary="Saved searches")
async def queries(gateway: GatewayDep, who: Reader) -> dict[str, Any]:
    """All of the tenant's."""
    rows = text("SELECT name, body FROM saved_query WHERE tenant_id = :t ORDER BY name")
    found = await gateway.store.read(lambda c: c.execute(rows, {"t": who.tenant_id}).all())
    return {
        "result": [
            {"name": r.name, "filter": Filter.model_validate_json(r.body).model_dump(mode="json", exclude_defaults=True)}
            for r in found
        ]
    }


@router.get("/queries/{name}/jobs", summary="Run a saved search")
async def run_query(
    name: str, gateway: GatewayDep, who: Reader, cursor: Annotated[str | None, Query(max_length=500)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> dict[str, Any]:  # fmt: skip
    """As `GET /v1/jobs` with its filter."""
    values = {"t": who.tenant_id, "n": name}
    saved = await gateway.store.read(
        lambda c: rows_of(c, "SELECT body FROM saved_query WHERE tenant_id = :t AND name = :n", values)
    )
    if not saved:
        raise ApiError(404, f"There is no saved search {name}.")
    wanted = Filter.model_validate(saved[0]).wanted(who.tenant_id, cursor)
    found, following = await gateway.store.read(lambda c: find(c, wanted, limit))
    return {"result": found, "next": following}


@router.delete("/queries/{name}", status_code=204, summary="Forget a saved search")
async def forget_query(name: str, gateway: GatewayDep, who: Writer) -> None:
    """Whether it was there or not."""
    drop = text("DELETE FROM saved_query WHERE tenant_id = :t AND name = :n")
    await gateway.store.transact(lambda c: c.execute(drop, {"t": who.tenant_id, "n": name}))
