"""Verbs for operators, and the reasons why jobs wait, under /v1."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Request
from pydantic import BaseModel, ConfigDict, Field

from contracts import (
    CancelJob,
    ExplainJob,
    PauseJob,
    PokeJob,
    RerunJob,
    ResumeJob,
    RetryJobNow,
    SetControl,
    TerminateJob,
    derived,
)
from services.ingest.adapters.admission import admit
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store.operations import rows_of
from services.ingest.adapters.store.reservations import job_place
from services.ingest.core.backlog import merge
from services.ingest.core.fields import Arguments, Flag, Id, Json, Meta, Number, Whole
from services.ingest.core.waiting import why
from services.ingest.http.answers.jobs import Explanation, JobRun, SteeredJob
from services.ingest.http.answers.operations import Backlog, ControlSet
from services.ingest.http.commands import send_command
from services.ingest.http.dependencies import PLATFORM_TENANT, GatewayDep, Operator, Reader, Writer
from services.ingest.http.errors import ApiError
from services.ingest.http.idempotency import given_key
from services.ingest.http.records import job_record
from shared import clock
from shared.web.api_keys import Principal
from shared.web.openapi import REPEATABLE, answered

router = APIRouter(prefix="/v1", tags=["Operations"], max_body_size=1 << 20)


class Why(BaseModel):
    """`reason` appears in the job's history and in the audit."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(default="", max_length=1000)


class Retry(Why):
    """Without `file_id` everything of the job that is in back-off is retried."""

    file_id: Id | None = None


class Rerun(Why):
    """What to run again. The new job reuses the files and the results that are still valid."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"from_step": "fields", "only": "failed", "reason": "new rules"}]}
    )

    from_step: str | None = Field(default=None, max_length=100)
    only: Literal["all", "failed", "changed"] = "all"
    file_ids: list[Id] = Field(default_factory=list, max_length=1000)
    workflow_version: Whole | None = Field(default=None, ge=1)
    metadata: Meta = None
    args: Arguments | None = None


class Poke(BaseModel):
    """The answer for a waiting step: OK continues with `data` as its result, KO fails it with `code`."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"step": "approve", "outcome": "OK", "data": {"approved_by": "ann"}}]}
    )

    step: str | None = Field(default=None, max_length=100)
    file_id: Id | None = None
    outcome: Literal["OK", "KO"] = "OK"
    code: str | None = Field(default=None, max_length=100)
    message: str | None = Field(default=None, max_length=4000)
    data: Json = Field(default_factory=dict)


class Steering(Why):
    """An absent field stays as it is; null clears the value."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"limit": 20, "reason": "the source is slow"}]})

    paused: Flag | None = None
    limit: Whole | None = Field(default=None, ge=0, le=1_000_000)
    rate_per_s: Number | None = Field(default=None, gt=0, le=1_000_000)
    burst: Whole | None = Field(default=None, ge=1, le=1_000_000)
    weight: Number | None = Field(default=None, gt=0, le=1000)


async def _verb(request: Request, gateway: Gateway, who: Principal, kind: Any, job_id: str, **fields: Any) -> dict[str, Any]:
    await job_record(gateway, job_id, who)
    command = kind(command_id=clock.new_root(), job_id=job_id, owner=who.tenancy, issued_at=clock.now(), **fields)
    await send_command(request, gateway, command, "The command")
    record = await job_record(gateway, job_id, who)
    return {"job_id": job_id, "command_id": command.command_id, "stage": record["stage"], "paused": record.get("paused")}


@router.post("/jobs/{job_id}/cancel", summary="Cancel a job", operation_id="cancelJob", responses=answered(SteeredJob))
async def cancel(
    job_id: str, request: Request, gateway: GatewayDep, who: Writer, body: Annotated[Why | None, Body()] = None
) -> dict[str, Any]:
    """Workers stop the job's running tasks. 409 when it has ended."""
    return await _verb(request, gateway, who, CancelJob, job_id, reason=body.reason if body else "")


@router.post(
    "/jobs/{job_id}/terminate",
    summary="End a job as failed, without rescue steps",
    operation_id="terminateJob",
    responses=answered(SteeredJob),
)
async def terminate(
    job_id: str, request: Request, gateway: GatewayDep, who: Operator, body: Annotated[Why | None, Body()] = None
) -> dict[str, Any]:
    """Takes effect at once. 409 when it has ended."""
    return await _verb(request, gateway, who, TerminateJob, job_id, reason=body.reason if body else "")


@router.post("/jobs/{job_id}/pause", summary="Pause a job", operation_id="pauseJob", responses=answered(SteeredJob))
async def pause(
    job_id: str, request: Request, gateway: GatewayDep, who: Operator, body: Annotated[Why | None, Body()] = None
) -> dict[str, Any]:
    """Running tasks may end; no others are dispatched. 409 when it is paused or has ended."""
    return await _verb(request, gateway, who, PauseJob, job_id, reason=body.reason if body else "")


@router.post("/jobs/{job_id}/resume", summary="Resume a job", operation_id="resumeJob", responses=answered(SteeredJob))
async def resume(
    job_id: str, request: Request, gateway: GatewayDep, who: Operator, body: Annotated[Why | None, Body()] = None
) -> dict[str, Any]:
    """Dispatches tasks again. 409 when it is not paused."""
    return await _verb(request, gateway, who, ResumeJob, job_id, reason=body.reason if body else "")


@router.post("/jobs/{job_id}/retry", summary="Retry at once", operation_id="retryJob", responses=answered(SteeredJob))
async def retry(
    job_id: str, request: Request, gateway: GatewayDep, who: Operator, body: Annotated[Retry | None, Body()] = None
) -> dict[str, Any]:
    """Ends the back-off of the job's failed steps. 409 when nothing of the job is in back-off."""
    wanted = body or Retry()
    return await _verb(request, gateway, who, RetryJobNow, job_id, reason=wanted.reason, file_id=wanted.file_id)


@router.post("/jobs/{job_id}/poke", summary="Answer a waiting step", operation_id="answerStep", responses=answered(SteeredJob))
async def poke(
    job_id: str, request: Request, gateway: GatewayDep, who: Writer, body: Annotated[Poke | None, Body()] = None
) -> dict[str, Any]:
    """Approves or refuses (operators only), or answers any other step that waits for an outside event. 409 when no step waits."""
    wanted = body or Poke()
    return await _verb(request, gateway, who, PokeJob, job_id, **wanted.model_dump(), approval=who.may("operator"))


@router.post(
    "/jobs/{job_id}/rerun",
    status_code=201,
    summary="Run an ended job again, as a new job",
    operation_id="rerunJob",
    responses=answered(JobRun, 201),
    openapi_extra=REPEATABLE,
)
async def rerun(
    job_id: str, request: Request, gateway: GatewayDep, who: Operator, body: Annotated[Rerun | None, Body()] = None
) -> dict[str, Any]:
    """From the beginning or from a step; for all files, the failed ones, or those whose steps have changed; with other metadata
    or settings.

    With an `Idempotency-Key` a repeated request returns the same new job. 409 when the job has not ended.
    """
    await job_record(gateway, job_id, who)
    wanted = body or Rerun()
    key = given_key(request)
    root = derived(who.tenant_id, job_id, key, "rerun") if key else clock.new_root()
    fields = wanted.model_dump(exclude={"file_ids"})
    command = RerunJob(
        command_id=root, job_id=job_id, owner=who.tenancy, issued_at=clock.now(), new_job_id=derived(root, "job"),
        file_ids=tuple(wanted.file_ids), **fields,
    )  # fmt: skip
    made = {"job_id": command.new_job_id, "rerun_of": job_id, "command_id": command.command_id}
    if key and await gateway.record("job_view", command.new_job_id, who.tenant_id) is not None:
        return made
    async with admit(gateway, who.tenant_id, [job_place(command.new_job_id)]):
        # A refusal, and no answer in time, release the place: then the job may show without having had one.
        await send_command(request, gateway, command, "The command")
    return made


@router.get("/jobs/{job_id}/why", summary="Why a job waits", operation_id="explainJob", responses=answered(Explanation))
async def why_waiting(job_id: str, request: Request, gateway: GatewayDep, who: Reader) -> dict[str, Any]:
    """One reason `code` with a message, `facts`, and `changes_at` when the next change is known. The orchestrator answers for
    this moment.

    The id may also be that of an open session.
    """
    session = await gateway.record("session_view", job_id, who.tenant_id)
    if session is not None and session["status"] == "open":
        facts = {"session_id": job_id, "expires_at": session["expires_at"]}
        message = "the session is open: no job was created from it yet"
        return {
            "job_id": None,
            "code": "session_open",
            "message": message,
            "facts": facts,
            "changes_at": session["expires_at"],
        }
    job_id = session["job_id"] if session is not None and session["job_id"] else job_id
    record = await job_record(gateway, job_id, who)
    command = ExplainJob(command_id=clock.new_root(), job_id=job_id, owner=who.tenancy, issued_at=clock.now())
    try:
        answer = await send_command(request, gateway, command, "The question")
    except ApiError as error:
        if error.status != 503:
            raise
        known = why(record, [], clock.unix())
        return {
            "job_id": job_id,
            "code": "orchestrator_silent",
            "message": error.message,
            "facts": {"last_known": known},
            "changes_at": None,
        }
    return {"job_id": job_id, **answer["why"]}


@router.get("/backlog", summary="Backlog by action and tenant", operation_id="getBacklog", responses=answered(Backlog))
async def backlog(gateway: GatewayDep, who: Reader) -> dict[str, Any]:
    """Waiting and running tasks, rates, and when the backlog will be drained. Tenants see their own tasks, the platform all."""
    rows = await gateway.store.read(lambda c: rows_of(c, "SELECT body FROM backlog_view ORDER BY at", {}))
    return merge(rows, None if who.tenant_id == PLATFORM_TENANT else who.tenant_id, clock.unix())


@router.put(
    "/controls/{kind}/{name}", summary="Control an action or a tenant", operation_id="setControl", responses=answered(ControlSet)
)
async def control(
    kind: Literal["action", "tenant"],
    name: str,
    request: Request,
    gateway: GatewayDep,
    who: Operator,
    body: Annotated[Steering, Body()],
) -> dict[str, Any]:
    """Pauses, limits or weighs an action or a tenant, from now on. For operators of the platform: it concerns all tenants."""
    if who.tenant_id != PLATFORM_TENANT:
        raise ApiError(403, "Only operators of the platform may set controls: they concern all tenants.")
    given = body.model_dump(exclude={"reason"}, exclude_unset=True)
    clear: tuple[Any, ...] = tuple(sorted(k for k, v in given.items() if v is None and k != "paused"))
    command = SetControl(
        command_id=clock.new_root(), owner=who.tenancy, issued_at=clock.now(), kind=kind, name=name, reason=body.reason,
        clear=clear, **{k: v for k, v in given.items() if v is not None},
    )  # fmt: skip
    await send_command(request, gateway, command, "The control")
    return {"kind": kind, "name": name, "command_id": command.command_id, **given}
