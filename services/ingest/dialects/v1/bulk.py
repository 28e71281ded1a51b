"""One verb for many jobs: counted first, at a rate, resumable, audited."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import text

from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store.job_search import count, find
from services.ingest.dialects.v1.jobs import Filter
from services.ingest.dialects.v1.operations import Rerun
from services.ingest.dialects.v1.strict import Flag, Number
from services.ingest.http.dependencies import GatewayDep, Operator
from services.ingest.http.errors import ApiError
from shared import clock
from shared.web.api_keys import Principal

router = APIRouter(prefix="/v1/bulk", tags=["Operations"], max_body_size=1 << 20)
MOST = 1_000_000
_NEW = text("INSERT INTO bulk (id, tenant_id, created_at, state, body) VALUES (:i, :t, :a, 'running', :b)")


class Bulk(BaseModel):
    """`filter` as in `GET /v1/jobs`; `options` for rerun as in its own request."""

    model_config = ConfigDict(extra="forbid")

    verb: Literal["cancel", "terminate", "pause", "resume", "retry", "rerun"]
    filter: Filter
    dry_run: Flag = False
    rate_per_s: Number = Field(default=50.0, gt=0, le=1000)
    reason: str = Field(default="", max_length=1000)
    options: Rerun = Rerun()


@router.post("", status_code=201, summary="Do something to every job that fits")
async def start(gateway: GatewayDep, who: Operator, body: Annotated[Bulk, Body()]) -> dict[str, Any]:
    """Every job that exists now and fits when its turn comes. With `dry_run` nothing is done: the answer says how many fit, and shows some."""
    wanted = body.filter.model_copy(update={"sort": "created_at"})
    now = clock.unix()
    before = wanted.created_before or clock.now()
    wanted = wanted.model_copy(update={"created_before": min(before, clock.now())})
    search = wanted.wanted(who.tenant_id)
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


async def _one(gateway: Gateway, who: Principal, bulk_id: str) -> dict[str, Any]:
    query = text("SELECT state, body FROM bulk WHERE id = :i AND tenant_id = :t")
    row = await gateway.store.read(lambda c: c.execute(query, {"i": bulk_id, "t": who.tenant_id}).first())
    if row is None:
        raise ApiError(404, f"There is no bulk run {bulk_id[:80]}.")
    return {**json.loads(row.body), "state": row.state}


@router.get("", summary="Bulk runs")
async def listed(gateway: GatewayDep, who: Operator) -> dict[str, Any]:
    """The newest hundred."""
    query = text("SELECT state, body FROM bulk WHERE tenant_id = :t ORDER BY created_at DESC LIMIT 100")
    rows = await gateway.store.read(lambda c: c.execute(query, {"t": who.tenant_id}).all())
    return {"result": [{**json.loads(r.body), "state": r.state} for r in rows]}


@router.get("/{bulk_id}", summary="A bulk run")
async def shown(bulk_id: str, gateway: GatewayDep, who: Operator) -> dict[str, Any]:
    """How far it is."""
    return await _one(gateway, who, bulk_id)


async def _change(gateway: Gateway, who: Principal, bulk_id: str, was: str, then: str) -> dict[str, Any]:
    known = await _one(gateway, who, bulk_id)
    change = text("UPDATE bulk SET state = :n WHERE id = :i AND state = :w")
    changed = await gateway.store.transact(lambda c: c.execute(change, {"n": then, "w": was, "i": bulk_id}).rowcount)
    if not changed:
        raise ApiError(409, f"The bulk run is {known['state']}.")
    gateway.bulk_wake.set()
    return {**known, "state": then}


@router.post("/{bulk_id}/stop", summary="Stop a bulk run")
async def stop(bulk_id: str, gateway: GatewayDep, who: Operator) -> dict[str, Any]:
    """What it has done stays done."""
    return await _change(gateway, who, bulk_id, "running", "stopped")


@router.post("/{bulk_id}/resume", summary="Go on with a stopped bulk run")
async def resume(bulk_id: str, gateway: GatewayDep, who: Operator) -> dict[str, Any]:
    """Where it was stopped."""
    return await _change(gateway, who, bulk_id, "stopped", "running")
