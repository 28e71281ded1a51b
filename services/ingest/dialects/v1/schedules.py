"""Schedules: jobs at the times of a cron expression."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from contracts import DeleteSchedule, JobRequest, SetSchedule, derived
from contracts.loose import check_metadata
from contracts.secrecy import hide_secrets
from services.ingest.adapters.store.operations import rows_of
from services.ingest.core.fields import Arguments, Flag, Whole, WorkflowName
from services.ingest.http.answers.operations import ScheduleList, ScheduleSaved
from services.ingest.http.commands import send_command
from services.ingest.http.dependencies import GatewayDep, Reader, Writer
from services.ingest.http.errors import ApiError
from services.ingest.http.known_workflows import require_workflow
from services.ingest.http.remote_files import remote_file
from shared import clock
from shared.web.openapi import answered

router = APIRouter(prefix="/v1/schedules", tags=["Schedules"], max_body_size=1 << 20)


class Schedule(BaseModel):
    """`cron` has five fields (minute, hour, day of month, month, day of week) or is a macro such as `@daily`, in local time of
    `time_zone`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "cron": "0 6 * * 1-5",
                    "time_zone": "Europe/Berlin",
                    "workflow": "documents",
                    "urls": ["https://files.example.com/daily.pdf"],
                }
            ]
        },
    )

    cron: str = Field(min_length=1, max_length=200, examples=["0 6 * * 1-5"])
    time_zone: str = Field(default="UTC", min_length=1, max_length=100, examples=["Europe/Berlin"])
    workflow: WorkflowName = "documents"
    workflow_version: Whole | None = Field(default=None, ge=1)
    urls: list[Annotated[str, Field(max_length=2048)]] = Field(default_factory=list, max_length=100)
    metadata: Annotated[dict[str, Any] | None, BeforeValidator(check_metadata), Field(description="Free metadata")] = None
    priority: Literal["low", "normal", "high"] = "normal"
    args: Arguments | None = None
    paused: Flag = False


def _id(tenant: str, name: str) -> str:
    if not 0 < len(name) <= 100:
        raise ApiError(400, "name: 1 to 100 characters are expected", "name")
    return derived(tenant, name, "schedule")


def _shown(name: str, state: dict[str, Any]) -> dict[str, Any]:
    keep = ("cron", "time_zone", "urls", "paused", "next_at", "last_job_id")
    return {"name": name, "job": hide_secrets(state["job"]), **{k: state.get(k) for k in keep}}


@router.put("/{name}", summary="Create or change a schedule", operation_id="putSchedule", responses=answered(ScheduleSaved))
async def save(
    name: str, request: Request, gateway: GatewayDep, who: Writer, body: Annotated[Schedule, Body()]
) -> dict[str, Any]:
    """Times missed during an outage make one job afterwards. A local time that a clock change skips is taken right after the
    change."""
    await require_workflow(gateway, who, body.workflow, body.workflow_version)
    for index, url in enumerate(body.urls):
        remote_file("", index, url, None)
    fields = body.model_dump(exclude={"cron", "time_zone", "urls", "paused"})
    fields["metadata"] = {**(body.metadata or {}), "schedule": name}
    command = SetSchedule(
        command_id=clock.new_root(), owner=who.tenancy, issued_at=clock.now(), schedule_id=_id(who.tenant_id, name), cron=body.cron,
        time_zone=body.time_zone, job=JobRequest(**fields), urls=tuple(body.urls), paused=body.paused,
        admission=True,
    )  # fmt: skip
    await send_command(request, gateway, command, "The schedule")
    return {"name": name, **body.model_dump(mode="json", exclude_none=True)}


@router.get("", summary="Schedules", operation_id="listSchedules", responses=answered(ScheduleList))
async def listed(gateway: GatewayDep, who: Reader) -> dict[str, Any]:
    """All schedules of the tenant, with the time of their next job."""
    rows = await gateway.store.read(
        lambda c: rows_of(c, "SELECT body FROM schedule_view WHERE tenant_id = :t ORDER BY id", {"t": who.tenant_id})
    )
    return {"result": [_shown(_name(r), r) for r in rows if not r["deleted"]]}


def _name(state: dict[str, Any]) -> str:
    metadata = state["job"].get("metadata")
    return str(metadata.get("schedule", "")) if isinstance(metadata, dict) else ""


@router.delete("/{name}", status_code=204, summary="Delete a schedule", operation_id="deleteSchedule")
async def delete(name: str, request: Request, gateway: GatewayDep, who: Writer) -> None:
    """Jobs that it has made are kept."""
    command = DeleteSchedule(
        command_id=clock.new_root(), owner=who.tenancy, issued_at=clock.now(), schedule_id=_id(who.tenant_id, name)
    )
    await send_command(request, gateway, command, "The schedule")
