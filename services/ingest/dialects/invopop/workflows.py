"""Invopop's dialect: workflows, as drafts and as published versions (reference/vendor-apis.md §2.5)."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, field_validator
from sqlalchemy import text

from contracts import PublishWorkflow, derived
from contracts.loose import check_json
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store.accounts import add_audit
from services.ingest.core.fields import Flag
from services.ingest.core.job_view import text as shown_time
from services.ingest.dialects.invopop import store
from services.ingest.dialects.invopop.workflow_translation import BadFlow, translate
from services.ingest.http.commands import send_command
from services.ingest.http.dependencies import GatewayDep, Operator, Reader
from services.ingest.http.errors import ApiError, Unprocessable
from shared import clock
from shared.web.api_keys import Principal

router = APIRouter(prefix="/transform/v1", tags=["Invopop"], max_body_size=1 << 20)
PRIVATE = "tenant."
"""Prefix of the names that translated workflows of tenants have among the published ones."""


class Flow(BaseModel):
    """A workflow. `draft: true` only saves it; otherwise it is also published as the next version."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(default="", max_length=200)
    description: str = Field(default="", max_length=2000)
    schema_: str | None = Field(default=None, max_length=200, alias="schema")
    country: str | None = Field(default=None, max_length=10)
    steps: list[dict[str, Any]] = Field(default_factory=list, max_length=100)
    rescue: list[dict[str, Any]] = Field(default_factory=list, max_length=20)
    draft: Flag = False
    disabled: Flag = False

    @field_validator("steps", "rescue")
    @classmethod
    def _is_json(cls, value: Any) -> Any:
        check_json(value)
        return value


FlowId = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9-]*$")]


@router.put("/workflows/{flow_id}", summary="Create or replace a workflow")
async def put_flow(
    flow_id: FlowId, request: Request, response: Response, gateway: GatewayDep, who: Operator, body: Annotated[Flow, Body()]
) -> dict[str, Any]:
    """A workflow that cannot be run is 422 and names the field; a draft is not checked. Published versions never change, and jobs
    keep theirs."""
    return await _save(request, gateway, who, flow_id, body.model_dump(by_alias=True))


@router.patch("/workflows/{flow_id}", summary="Change a workflow")
async def patch_flow(
    flow_id: FlowId, request: Request, gateway: GatewayDep, who: Operator, body: Annotated[dict[str, Any], Body()]
) -> dict[str, Any]:
    """Replaces the given fields and keeps the others."""
    row = await _row(gateway, who, flow_id)
    merged = {**json.loads(row.body), "draft": False, **body}
    return await _save(request, gateway, who, flow_id, Flow.model_validate(merged).model_dump(by_alias=True))


async def _save(request: Request, gateway: Gateway, who: Principal, flow_id: str, flow: dict[str, Any]) -> dict[str, Any]:
    known = await gateway.store.read(lambda c: store.flow_by(c, who.tenant_id, "id", flow_id))
    name = known.name if known is not None else f"{PRIVATE}{derived(who.tenant_id, flow_id, 'flow')}"
    version, shown = (known.version, json.loads(known.shown)) if known is not None else (0, {})
    old = json.loads(known.body) if known is not None else {}
    now = shown_time(clock.now())
    if not flow["draft"] and not flow["disabled"]:
        version += 1
        definition, names = _translated(name, version, flow)
        command = PublishWorkflow(
            command_id=clock.new_root(), owner=who.tenancy, issued_at=clock.now(), name=name, definition=definition
        )
        await _publish(request, gateway, command)
        shown |= names
        flow["versions"] = [*old.get("versions", []), {"version": version, "created_at": now}][-100:]
    else:
        flow["versions"] = old.get("versions", [])
    flow |= {"id": flow_id, "created_at": old.get("created_at", now), "updated_at": now}

    def save(connection: Any) -> None:
        store.save_flow(connection, who.tenant_id, flow, name, version, shown, clock.unix())
        add_audit(connection, who, clock.unix(), "workflow.put", flow_id)

    await gateway.store.transact(save)
    return _shown(flow, version)


def _translated(name: str, version: int, flow: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        return translate(name, version, flow)
    except BadFlow as error:
        raise Unprocessable({error.field: str(error)}) from None


async def _publish(request: Request, gateway: Gateway, command: PublishWorkflow) -> None:
    try:
        await send_command(request, gateway, command, "The workflow")
    except ApiError as error:
        raise (Unprocessable({"steps": error.message}) if error.status in (400, 404) else error) from None


def _shown(flow: dict[str, Any], version: int) -> dict[str, Any]:
    content = json.dumps({k: flow.get(k) for k in ("steps", "rescue")}, sort_keys=True)
    return {**flow, "version": version, "hash": hashlib.sha256(content.encode()).hexdigest()}


async def _row(gateway: Gateway, who: Principal, flow_id: str) -> Any:
    row = await gateway.store.read(lambda c: store.flow_by(c, who.tenant_id, "id", flow_id))
    if row is None:
        raise ApiError(404, f"There is no workflow {flow_id[:200]}.")
    return row


@router.get("/workflows/{flow_id}", summary="A workflow")
async def get_flow(flow_id: FlowId, gateway: GatewayDep, who: Reader) -> dict[str, Any]:
    """The workflow as it was last saved. `version` is the newest published version, 0 without one."""
    row = await _row(gateway, who, flow_id)
    return _shown(json.loads(row.body), row.version)


@router.get("/workflows", summary="Workflows, newest first")
async def list_flows(
    gateway: GatewayDep, who: Reader, limit: Annotated[int, Query(ge=1, le=100)] = 20,
    created_at: Annotated[float | None, Query(ge=0, le=1e12, description="`next_created_at` of the previous page")] = None,
    schema: Annotated[str | None, Query(max_length=200)] = None,
) -> dict[str, Any]:  # fmt: skip
    """`list` has the workflows; `next_created_at` is present when there are more."""
    query = text(
        "SELECT body, version, created_at FROM silo_flow WHERE tenant_id = :t AND created_at < :b ORDER BY created_at DESC, id LIMIT :n"
    )
    values = {"t": who.tenant_id, "b": created_at if created_at is not None else 1e15, "n": limit + 1}
    rows = await gateway.store.read(lambda c: c.execute(query, values).all())
    found = [_shown(json.loads(r.body), r.version) for r in rows[:limit]]
    page = {"list": [f for f in found if schema is None or f.get("schema") == schema], "limit": limit}
    return page | ({"next_created_at": rows[limit - 1].created_at} if len(rows) > limit else {})
