"""Erasure of jobs, on request and by age."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import text

from contracts import EraseJob
from services.ingest.core.fields import Number
from services.ingest.http.answers.operations import RetentionDays
from services.ingest.http.commands import send_command
from services.ingest.http.dependencies import Admin, GatewayDep
from services.ingest.http.records import job_record
from shared import clock
from shared.web.openapi import answered

router = APIRouter(prefix="/v1", tags=["Operations"], max_body_size=1 << 20)
_KEEP = text("INSERT INTO retention (tenant_id, days) VALUES (:t, :d) ON CONFLICT (tenant_id) DO UPDATE SET days = excluded.days")
_DAYS = text("SELECT days FROM retention WHERE tenant_id = :t")


class Retention(BaseModel):
    """Days that ended jobs are kept; null keeps them for ever."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"days": 90}]})

    days: Number | None = Field(ge=0, le=36_500)


@router.delete("/jobs/{job_id}", status_code=204, summary="Erase a job", operation_id="eraseJob")
async def erase(job_id: str, request: Request, gateway: GatewayDep, who: Admin, reason: str = "") -> None:
    """Erases the job's record, files, history, texts and results in every service, and its objects unless another file has the
    same content.

    Consumers get a `JobErased` event. 409 when the job has not ended.
    """
    await job_record(gateway, job_id, who)
    command = EraseJob(command_id=clock.new_root(), job_id=job_id, owner=who.tenancy, issued_at=clock.now(), reason=reason[:1000])
    await send_command(request, gateway, command, "The command")

    def gone(connection: Any) -> bool | None:
        return None if connection.execute(text("SELECT 1 FROM job_view WHERE id = :i"), {"i": job_id}).first() else True

    await gateway.decisions.wait_until(gone, gateway.settings.decision_timeout_s)


@router.put("/retention", summary="Set the retention of jobs", operation_id="setRetention", responses=answered(RetentionDays))
async def set_retention(gateway: GatewayDep, who: Admin, body: Annotated[Retention, Body()]) -> dict[str, Any]:
    """The tenant's jobs that ended longer ago are erased within minutes."""
    drop = text("DELETE FROM retention WHERE tenant_id = :t")
    values = {"t": who.tenant_id, "d": body.days}
    await gateway.store.transact(
        lambda c: c.execute(drop, {"t": who.tenant_id}) if body.days is None else c.execute(_KEEP, values)
    )
    gateway.retention_wake.set()
    # An empty unit wakes the sweeper, which waits for commits.
    await gateway.processor.run_unit(lambda unit: None)
    return {"days": body.days}


@router.get("/retention", summary="Retention of jobs", operation_id="getRetention", responses=answered(RetentionDays))
async def retention(gateway: GatewayDep, who: Admin) -> dict[str, Any]:
    """`days`, or null when jobs are kept for ever."""
    return {"days": await gateway.store.read(lambda c: c.execute(_DAYS, {"t": who.tenant_id}).scalar())}
