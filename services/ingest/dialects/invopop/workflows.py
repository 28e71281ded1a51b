"""Invopop's dialect: workflows, as drafts and as published versions (reference/vendor-apis.md §2.5)."""

from __future__ import annotations

import contextlib
import hashlib
import json
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, field_validator

from contracts import DeleteWorkflow, PublishWorkflow, derived
from contracts.loose import check_json
from contracts.secrecy import hide_secrets
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store import workflow_quotas
from services.ingest.adapters.store.audit import add_audit
from services.ingest.core.fields import Flag
from services.ingest.core.job_view import text as shown_time
from services.ingest.core.workflow_readers import PRIVATE
from services.ingest.dialects.invopop import store
from services.ingest.dialects.invopop.ids import FlowId
from services.ingest.dialects.invopop.times import moment, place
from services.ingest.dialects.invopop.workflow_translation import BadFlow, translate
from services.ingest.http.commands import send_command
from services.ingest.http.dependencies import GatewayDep, Operator, Reader
from services.ingest.http.errors import ApiError, Unprocessable
from services.ingest.http.parameters import definition_fault
from shared import clock
from shared.web.api_keys import Principal

router = APIRouter(prefix="/transform/v1", tags=["Invopop"], max_body_size=1 << 20)


def _none(value: Any) -> Any:
    return [] if value is None else value


def _no(value: Any) -> Any:
    return False if value is None else value


MaybeFlag = Annotated[Flag, BeforeValidator(_no), WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "null"}]})]
Steps = Annotated[
    list[dict[str, Any]],
    BeforeValidator(_none),
    WithJsonSchema({"anyOf": [{"type": "array", "items": {"type": "object"}}, {"type": "null"}]}),
]
"""The vendor's clients write null for no steps."""


class Flow(BaseModel):
    """A workflow. `draft: true`, and a workflow without steps, is only saved; otherwise it is also published as the next version."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(default="", max_length=200)
    description: str = Field(default="", max_length=2000)
    schema_: str | None = Field(default=None, max_length=200, alias="schema")
    country: str | None = Field(default=None, max_length=10)
    steps: Steps = Field(default_factory=list, max_length=100)
    rescue: Steps = Field(default_factory=list, max_length=20)
    draft: MaybeFlag = False
    disabled: MaybeFlag = False

    @field_validator("steps", "rescue")
    @classmethod
    def _is_json(cls, value: Any) -> Any:
        check_json(value)
        return value


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
    """Replaces the given fields and keeps the others. Null, and an empty name, is a field that the client did not set."""
    row = await _row(gateway, who, flow_id)
    given = {name: value for name, value in body.items() if value is not None and (name, value) != ("name", "")}
    merged = {**json.loads(row.body), "draft": False, **given}
    return await _save(request, gateway, who, flow_id, Flow.model_validate(merged).model_dump(by_alias=True))


async def _save(request: Request, gateway: Gateway, who: Principal, flow_id: str, flow: dict[str, Any]) -> dict[str, Any]:
    known = await _enter(gateway, who, flow_id)
    name, version, shown, old = known.name, known.version, json.loads(known.shown), json.loads(known.body)
    now = shown_time(clock.now())
    flow["draft"] = flow["draft"] or not flow["steps"]
    try:
        if flow["draft"] or flow["disabled"]:
            _require_no_secret(gateway, who, name, flow)
            flow["versions"] = old.get("versions", [])
        else:
            version += 1
            definition, names = _translated(name, version, flow)
            fault = definition_fault(gateway, definition, who, draft=False)
            if fault is not None:
                raise Unprocessable({fault.field: fault.message})
            await _admit_actions(gateway, who, definition)
            command = PublishWorkflow(
                command_id=clock.new_root(), owner=who.tenancy, issued_at=clock.now(), name=name, definition=definition
            )
            await _publish(request, gateway, command)
            shown |= names
            made = {"version": version, "created_at": now, "name": flow["name"], "hash": _hash(flow)}
            flow["versions"] = [*old.get("versions", []), made][-100:]
    except ApiError:
        await gateway.store.transact(lambda c: store.drop_empty_flow(c, who.tenant_id, flow_id))
        raise
    flow |= {"id": flow_id, "created_at": old.get("created_at", now), "updated_at": now}

    def save(connection: Any) -> None:
        store.save_flow(connection, who.tenant_id, flow, name, version, shown, clock.unix())
        add_audit(connection, who, clock.unix(), "workflow.put", flow_id)

    await gateway.store.transact(save)
    return _shown(flow, version)


async def _enter(gateway: Gateway, who: Principal, flow_id: str) -> Any:
    """The workflow's row; a new one takes its place in the tenant's quota before anything is published. Raises `OverLimit`."""
    caps = await gateway.limits.quotas(who.tenant_id)
    # A deleted workflow's name is not used again, so a new one gets a name of its own.
    name = f"{PRIVATE}{derived(who.tenant_id, flow_id, clock.new_root(), 'flow')}"

    def enter(connection: Any) -> Any:
        if workflow_quotas.admit_flow(connection, who.tenant_id, caps, flow_id):
            store.save_flow(connection, who.tenant_id, {"id": flow_id}, name, 0, {}, clock.unix())
        return store.flow_by(connection, who.tenant_id, "id", flow_id)

    return await gateway.store.transact(enter)


async def _admit_actions(gateway: Gateway, who: Principal, definition: dict[str, Any]) -> None:
    """Raises 422 for actions that the tenant may not introduce."""
    actions = {step["action"] for step in (*definition["steps"], *definition["rescue"])}
    caps = await gateway.limits.quotas(who.tenant_id)
    refused = await gateway.store.transact(lambda c: workflow_quotas.admit_actions(c, who.tenant_id, caps, actions, clock.unix()))
    if refused:
        why = f"no worker serves {', '.join(refused)[:500]}, and the tenant may introduce {caps.actions} actions"
        raise Unprocessable({"steps": why})


@router.delete("/workflows/{flow_id}", status_code=204, summary="Delete a workflow")
async def delete_flow(flow_id: FlowId, request: Request, gateway: GatewayDep, who: Operator) -> None:
    """Its jobs go on, and show their steps as before. 409 while a schedule or another workflow starts it."""
    row = await _row(gateway, who, flow_id)
    if row.version:
        command = DeleteWorkflow(command_id=clock.new_root(), owner=who.tenancy, issued_at=clock.now(), name=row.name)
        try:
            await send_command(request, gateway, command, "The deletion")
        except ApiError as error:
            if error.status != 404:
                raise

    def drop(connection: Any) -> None:
        store.delete_flow(connection, who.tenant_id, flow_id, clock.unix())
        add_audit(connection, who, clock.unix(), "workflow.delete", flow_id)

    await gateway.store.transact(drop)


def _translated(name: str, version: int, flow: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        return translate(name, version, flow)
    except BadFlow as error:
        raise Unprocessable({error.field: str(error)}) from None


def _require_no_secret(gateway: Gateway, who: Principal, name: str, flow: dict[str, Any]) -> None:
    with contextlib.suppress(BadFlow):
        definition, _ = translate(name, 1, flow)
        fault = definition_fault(gateway, definition, who, draft=True)
        if fault is not None:
            raise Unprocessable({fault.field: fault.message})


async def _publish(request: Request, gateway: Gateway, command: PublishWorkflow) -> None:
    try:
        await send_command(request, gateway, command, "The workflow")
    except ApiError as error:
        raise (Unprocessable({"steps": error.message}) if error.status in (400, 404) else error) from None


def _shown(flow: dict[str, Any], version: int) -> dict[str, Any]:
    """A workflow as answers show it. What has no value is left out, and versions are text: so the vendor's clients read them."""
    versions = [{**known, "version": str(known["version"])} for known in flow.get("versions", [])]
    shown = hide_secrets({**flow, "version": str(version), "versions": versions})
    return {name: value for name, value in {**shown, "hash": _hash(flow)}.items() if value is not None}


def _hash(flow: dict[str, Any]) -> str:
    content = json.dumps({k: flow.get(k) for k in ("steps", "rescue")}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


async def _row(gateway: Gateway, who: Principal, flow_id: str) -> Any:
    row = await gateway.store.read(lambda c: store.flow_by(c, who.tenant_id, "id", flow_id))
    if row is None:
        raise ApiError(404, f"There is no workflow {flow_id[:200]}.")
    return row


@router.get("/workflows/{flow_id}", summary="A workflow")
async def get_flow(flow_id: FlowId, gateway: GatewayDep, who: Reader) -> dict[str, Any]:
    """The workflow as it was last saved. `version` is the newest published version, `0` without one."""
    row = await _row(gateway, who, flow_id)
    return _shown(json.loads(row.body), row.version)


@router.get("/workflows", summary="Workflows, newest first")
async def list_flows(
    gateway: GatewayDep, who: Reader, limit: Annotated[int, Query(ge=1, le=100)] = 20,
    created_at: Annotated[str | None, Query(max_length=40)] = None, schema: Annotated[str | None, Query(max_length=200)] = None,
) -> dict[str, Any]:  # fmt: skip
    """`list` has the workflows from the time `created_at` (RFC 3339) backwards; `next_created_at` is that of the next page, if there is
    one."""
    bound = moment(created_at) if created_at else store.FAR
    rows = await gateway.store.read(lambda c: store.flows_before(c, who.tenant_id, bound, schema or None, limit + 1))
    first = created_at or (place(rows[0].created_at) if rows else None)
    following = place(rows[limit].created_at) if len(rows) > limit else None
    page = {"created_at": first, "limit": limit, "schema": schema or None, "next_created_at": following}
    listed = [_shown(json.loads(r.body), r.version) for r in rows[:limit]]
    return {"list": listed, **{name: value for name, value in page.items() if value is not None}}
