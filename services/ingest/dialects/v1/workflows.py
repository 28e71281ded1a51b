"""Workflows: drafts may change, published versions never do."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request
from sqlalchemy import text

from contracts import DeleteWorkflow, PublishWorkflow
from contracts.secrecy import hide_secrets
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store.operations import LIVE, Record, rows_of
from services.ingest.core.fields import Json
from services.ingest.core.workflow_readers import PRIVATE, may_read, may_run
from services.ingest.http.answers.operations import PublishedVersion, PublishedWorkflow, WorkflowDraft, WorkflowList
from services.ingest.http.commands import send_command
from services.ingest.http.dependencies import PLATFORM_TENANT, GatewayDep, Operator, Reader
from services.ingest.http.errors import ApiError
from services.ingest.http.parameters import definition_fault, refusal
from shared import clock
from shared.web.api_keys import Principal
from shared.web.openapi import answered

router = APIRouter(prefix="/v1/workflows", tags=["Workflows"], max_body_size=1 << 20)
_SAVE = text("INSERT INTO workflow_draft (name, body) VALUES (:n, :b) ON CONFLICT (name) DO UPDATE SET body = excluded.body")
_DROP = text("DELETE FROM workflow_draft WHERE name = :n")


def _platform(who: Principal) -> None:
    if who.tenant_id != PLATFORM_TENANT:
        raise ApiError(403, "Only operators of the platform may change workflows: all tenants share them.")


async def _draft(gateway: Gateway, name: str) -> Record | None:
    found = await gateway.store.read(lambda c: rows_of(c, "SELECT body FROM workflow_draft WHERE name = :n", {"n": name}))
    return found[0] if found else None


@router.get("", summary="Published workflows and drafts", operation_id="listWorkflows", responses=answered(WorkflowList))
async def listed(gateway: GatewayDep, who: Reader) -> dict[str, Any]:
    """The workflows that the tenant may run, each with its versions, oldest first. Drafts are shown to the platform alone."""
    published = f"SELECT body FROM workflow_view WHERE name NOT LIKE :private AND {LIVE} ORDER BY name, version"
    rows = await gateway.store.read(lambda c: rows_of(c, published, {"private": f"{PRIVATE}%"}))
    platform = who.tenant_id == PLATFORM_TENANT
    query = text("SELECT name FROM workflow_draft")
    drafts = await gateway.store.read(lambda c: list(c.execute(query).scalars())) if platform else []
    found: dict[str, Record] = {}
    for row in rows:
        if not may_run(row, who.tenant_id, PLATFORM_TENANT):
            continue
        entry = found.setdefault(row["name"], {"name": row["name"], "versions": [], "draft": row["name"] in drafts})
        entry["versions"].append(row["version"])
        entry["description"] = row["definition"].get("description", "")
    for name in drafts:
        found.setdefault(name, {"name": name, "versions": [], "draft": True, "description": ""})
    return {"result": [found[name] for name in sorted(found)]}


@router.get("/{name}", summary="A workflow", operation_id="getWorkflow", responses=answered(PublishedWorkflow))
async def shown(
    name: str, gateway: GatewayDep, who: Reader, version: Annotated[int | None, Query(ge=1, le=1 << 31)] = None
) -> dict[str, Any]:
    """The given published version, or the newest. A deleted version, which jobs may still run, is shown when it is named.

    A definition holds configuration, so only the tenant that published it can read it; everybody can read those of the release.
    """
    query = (
        f"SELECT body FROM workflow_view WHERE name = :n AND (version = :v OR :v = 0 AND {LIVE}) ORDER BY version DESC LIMIT 1"
    )
    found = await gateway.store.read(lambda c: rows_of(c, query, {"n": name, "v": version or 0}))
    if not found or not may_read(found[0], who.tenant_id, PLATFORM_TENANT):
        raise ApiError(404, f"There is no published workflow {name}{f'@{version}' if version else ''} that your tenant can read.")
    return {**found[0], "definition": hide_secrets(found[0]["definition"])}


@router.get("/{name}/draft", summary="A workflow's draft", operation_id="getWorkflowDraft", responses=answered(WorkflowDraft))
async def draft(name: str, gateway: GatewayDep, who: Operator) -> dict[str, Any]:
    """The draft as it was last saved. Drafts are the platform's."""
    found = await _draft(gateway, name) if who.tenant_id == PLATFORM_TENANT else None
    if found is None:
        raise ApiError(404, f"There is no draft of {name}.")
    return {"name": name, "definition": hide_secrets(found)}


@router.put("/{name}/draft", summary="Save a draft", operation_id="saveWorkflowDraft", responses=answered(WorkflowDraft))
async def save_draft(name: str, gateway: GatewayDep, who: Operator, body: Annotated[Json, Body()]) -> dict[str, Any]:
    """Drafts may be invalid: errors are reported when a draft is published, or by `stageline workflows validate`."""
    _platform(who)
    if body.get("name") != name or len(name) > 100:
        raise ApiError(400, f"name: {name!r} is expected", "name")
    fault = definition_fault(gateway, body, who, draft=True)
    if fault is not None:
        raise refusal(fault)
    await gateway.store.transact(lambda c: c.execute(_SAVE, {"n": name, "b": json.dumps(body)}))
    return {"name": name, "definition": body}


@router.post(
    "/{name}/publish",
    status_code=201,
    summary="Publish a workflow version",
    operation_id="publishWorkflow",
    responses=answered(PublishedVersion, 201),
)
async def publish(
    name: str, request: Request, gateway: GatewayDep, who: Operator, body: Annotated[Json | None, Body()] = None
) -> dict[str, Any]:
    """Publishes the body, or the draft if there is no body. A published version never changes.

    Publishing the same definition again succeeds; another definition under the same version is 409. An invalid one is 400 and
    names the field.
    """
    _platform(who)
    definition = body or await _draft(gateway, name)
    if definition is None:
        raise ApiError(404, f"There is no draft of {name}.")
    # Judged here too, so that no secret of a refused definition reaches a topic.
    fault = definition_fault(gateway, definition, who, draft=False)
    if fault is not None:
        raise refusal(fault)
    command = PublishWorkflow(
        command_id=clock.new_root(), owner=who.tenancy, issued_at=clock.now(), name=name, definition=definition
    )
    await send_command(request, gateway, command, "The workflow")
    await gateway.store.transact(lambda c: c.execute(_DROP, {"n": name}))
    return {"name": name, "version": definition["version"], "command_id": command.command_id}


@router.delete("/{name}", status_code=204, summary="Delete a workflow", operation_id="deleteWorkflow")
async def delete(name: str, request: Request, gateway: GatewayDep, who: Operator) -> None:
    """Deletes all versions and the draft. Jobs that run it go on; no job begins with it, from a second later.

    409 while a schedule or another workflow starts it, and for a workflow that comes from a file. A deleted version number is not used again.
    """
    _platform(who)
    if not 0 < len(name) <= 100:
        raise ApiError(404, f"There is no workflow {name[:100]}.")
    command = DeleteWorkflow(command_id=clock.new_root(), owner=who.tenancy, issued_at=clock.now(), name=name)
    await send_command(request, gateway, command, "The deletion")
    await gateway.store.transact(lambda c: c.execute(_DROP, {"n": name}))
