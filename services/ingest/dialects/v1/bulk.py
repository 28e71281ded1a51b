"""Bulk runs: one verb for many jobs, counted first, at a bounded rate, resumable and audited."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import text

from contracts.secrecy import hide_secrets
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store.job_search import count, find
from services.ingest.core.fields import Flag, Number
from services.ingest.core.job_filter import Filter
from services.ingest.dialects.v1.operations import Rerun
from services.ingest.http.answers.jobs import BulkRun, BulkRuns, BulkStarted
from services.ingest.http.dependencies import GatewayDep, Operator
from services.ingest.http.errors import ApiError
from shared import clock
from shared.web.api_keys import Principal
from shared.web.openapi import answered

router = APIRouter(prefix="/v1/bulk", tags=["Operations"], max_body_size=1 << 20)
MOST = 1_000_000
_NEW = text("INSERT INTO bulk (id, tenant_id, created_at, state, body) VALUES (:i, :t, :a, 'running', :b)")


class Bulk(BaseModel):
    """`filter` is that of `GET /v1/jobs`; `options` are those of the rerun request."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "verb": "retry",
                    "filter": {"workflow": "documents@1", "error_code": "unreachable"},
                    "rate_per_s": 20.0,
                    "reason": "the source is back",
                }
            ]
        },
    )

    verb: Literal["cancel", "terminate", "pause", "resume", "retry", "rerun"]
    filter: Filter
    dry_run: Flag = False
    rate_per_s: Number = Field(default=50.0, ge=0.1, le=1000)
    reason: str = Field(default="", max_length=1000)
    options: Rerun = Rerun()


@router.post("", status_code=201, summary="Start a bulk run", operation_id="startBulkRun", responses=answered(BulkStarted, 201))
async def start(gateway: GatewayDep, who: Operator, body: Annotated[Bulk, Body()]) -> dict[str, Any]:
    """Applies the verb to every job that exists now and still fits when its turn comes.

    With `dry_run` nothing is done: the answer has the number of jobs that fit, and some of them.
    """
    wanted = body.filter.model_copy(update={"sort": "created_at"})
    now = clock.unix()
    before = wanted.created_before or clock.now()
    wanted = wanted.model_copy(update={"created_before": min(before, clock.now())})
    search = wanted.query(who.tenant_id, now)
    fitting = await gateway.store.read(lambda c: count(c, search, MOST))
    if body.dry_run:
        some, _ = await gateway.store.read(lambda c: find(c, search, 10))
        return {"dry_run": True, "count": fitting, "jobs": [{"id": j["id"], "stage": j["stage"]} for j in some]}
    state = {
        "id": clock.new_root(), "verb": body.verb, "filter": wanted.model_dump(mode="json", exclude_defaults=True), "reason": body.reason,
        "rate_per_s": body.rate_per_s, "options": body.options.model_dump(mode="json"), "by": who.tenancy.user_name,
        "tenant_name": who.tenancy.tenant_name, "count": fitting, "done": 0, "refused": 0, "cursor": None, "created_at": now,
    }  # fmt: skip
    row = {"i": state["id"], "t": who.tenant_id, "a": now, "b": json.dumps(state)}
    await gateway.store.transact(lambda c: c.execute(_NEW, row))
    gateway.bulk_wake.set()
    return {**state, "state": "running"}


def _shown(row: Any) -> dict[str, Any]:
    return {**hide_secrets(json.loads(row.body)), "state": row.state}


async def _one(gateway: Gateway, who: Principal, bulk_id: str) -> dict[str, Any]:
    query = text("SELECT state, body FROM bulk WHERE id = :i AND tenant_id = :t")
    row = await gateway.store.read(lambda c: c.execute(query, {"i": bulk_id, "t": who.tenant_id}).first())
    if row is None:
        raise ApiError(404, f"There is no bulk run {bulk_id[:80]}.")
    return _shown(row)


@router.get("", summary="Bulk runs", operation_id="listBulkRuns", responses=answered(BulkRuns))
async def listed(gateway: GatewayDep, who: Operator) -> dict[str, Any]:
    """The newest hundred bulk runs."""
    query = text("SELECT state, body FROM bulk WHERE tenant_id = :t ORDER BY created_at DESC LIMIT 100")
    rows = await gateway.store.read(lambda c: c.execute(query, {"t": who.tenant_id}).all())
    return {"result": [_shown(r) for r in rows]}


@router.get("/{bulk_id}", summary="A bulk run", operation_id="getBulkRun", responses=answered(BulkRun))
async def shown(bulk_id: str, gateway: GatewayDep, who: Operator) -> dict[str, Any]:
    """The bulk run's state and progress."""
    return await _one(gateway, who, bulk_id)


async def _change(gateway: Gateway, who: Principal, bulk_id: str, was: str, then: str) -> dict[str, Any]:
    known = await _one(gateway, who, bulk_id)
    change = text("UPDATE bulk SET state = :n WHERE id = :i AND tenant_id = :t AND state = :w")
    changed = await gateway.store.transact(
        lambda c: c.execute(change, {"n": then, "w": was, "i": bulk_id, "t": who.tenant_id}).rowcount
    )
    if not changed:
        raise ApiError(409, f"The bulk run is {known['state']}.")
    gateway.bulk_wake.set()
    return {**known, "state": then}


@router.post("/{bulk_id}/stop", summary="Stop a bulk run", operation_id="stopBulkRun", responses=answered(BulkRun))
async def stop(bulk_id: str, gateway: GatewayDep, who: Operator) -> dict[str, Any]:
    """Jobs that it has handled stay as they are."""
    return await _change(gateway, who, bulk_id, "running", "stopped")


@router.post("/{bulk_id}/resume", summary="Resume a bulk run", operation_id="resumeBulkRun", responses=answered(BulkRun))
async def resume(bulk_id: str, gateway: GatewayDep, who: Operator) -> dict[str, Any]:
    """Continues after the last handled page."""
    return await _change(gateway, who, bulk_id, "stopped", "running")
