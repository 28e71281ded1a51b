"""Workflows: drafts may change, published versions never do."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request
from sqlalchemy import text

from contracts import PublishWorkflow
from contracts.loose import check_json
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store.operations import Record, rows_of
from services.ingest.http.commands import send_command
from services.ingest.http.dependencies import PLATFORM_TENANT, GatewayDep, Operator, Reader
from services.ingest.http.errors import ApiError
from shared import clock
from shared.web.api_keys import Principal

router = APIRouter(prefix="/v1/workflows", tags=["Workflows"], max_body_size=1 << 20)
_SAVE = text("INSERT INTO workflow_draft (name, body) VALUES (:n, :b) ON CONFLICT (name) DO UPDATE SET body = excluded.body")
_DROP = text("DELETE FROM workflow_draft WHERE name = :n")


def _platform(who: Principal) -> None:
    if who.tenant_id != PLATFORM_TENANT:
        raise ApiError(403, "Only operators of the platform may change workflows: all tenants share them.")


def is_private(name: str, who: Principal) -> bool:
    """True for a workflow that belongs to another dialect of a tenant. Only the platform sees it here."""
    return name.startswith("tenant.") and who.tenant_id != PLATFORM_TENANT


async def _draft(gateway: Gateway, name: str) -> Record | None:
    found = await gateway.store.read(lambda c: rows_of(c, "SELECT body FROM workflow_draft WHERE name = :n", {"n": name}))
    return found[0] if found else None


@router.get("", summary="Published workflows and drafts")
async def listed(gateway: GatewayDep, who: Reader) -> dict[str, Any]:
    """Each workflow with its versions, oldest first, and whether it has a draft."""
    rows = await gateway.store.read(lambda c: rows_of(c, "SELECT body FROM workflow_view ORDER BY name, version", {}))
    drafts = await gateway.store.read(lambda c: list(c.execute(text("SELECT name FROM workflow_draft")).scalars()))
    found: dict[str, Record] = {}
    for row in rows:
        if is_private(row["name"], who):
            continue
        entry = found.setdefault(row["name"], {"name": row["name"], "versions": [], "draft": row["name"] in drafts})
        entry["versions"].append(row["version"])
        entry["description"] = row["definition"].get("description", "")
    for name in drafts:
        found.setdefault(name, {"name": name, "versions": [], "draft": True, "description": ""})
    return {"result": [found[name] for name in sorted(found)]}


@router.get("/{name}", summary="A workflow")
async def shown(
    name: str, gateway: GatewayDep, who: Reader, version: Annotated[int | None, Query(ge=1, le=1 << 31)] = None
) -> dict[str, Any]:
    """The given published version, or the newest."""
    query = "SELECT body FROM workflow_view WHERE name = :n AND (:v = 0 OR version = :v) ORDER BY version DESC LIMIT 1"
    found = await gateway.store.read(lambda c: rows_of(c, query, {"n": name, "v": version or 0}))
    if not found or is_private(name, who):
        raise ApiError(404, f"There is no published workflow {name}{f'@{version}' if version else ''}.")
    return found[0]


@router.get("/{name}/draft", summary="A workflow's draft")
async def draft(name: str, gateway: GatewayDep, who: Operator) -> dict[str, Any]:
    """The draft as it was last saved."""
    found = await _draft(gateway, name)
    if found is None:
        raise ApiError(404, f"There is no draft of {name}.")
    return {"name": name, "definition": found}


@router.put("/{name}/draft", summary="Save a draft")
async def save_draft(name: str, gateway: GatewayDep, who: Operator, body: Annotated[dict[str, Any], Body()]) -> dict[str, Any]:
    """Drafts may be invalid: errors are reported when a draft is published, or by `stageline workflows validate`."""
    _platform(who)
    check_json(body)
    if body.get("name") != name or len(name) > 100:
        raise ApiError(400, f"name: {name!r} is expected", "name")
    await gateway.store.transact(lambda c: c.execute(_SAVE, {"n": name, "b": json.dumps(body)}))
    return {"name": name, "definition": body}


@router.post("/{name}/publish", status_code=201, summary="Publish a workflow version")
async def publish(
    name: str, request: Request, gateway: GatewayDep, who: Operator, body: Annotated[dict[str, Any] | None, Body()] = None
) -> dict[str, Any]:
    """Publishes the body, or the draft if there is no body. A published version never changes.

    Publishing the same definition again succeeds; another definition under the same version is 409. An invalid one is 400 and
    names the field.
    """
    _platform(who)
    definition = body or await _draft(gateway, name)
    if definition is None:
        raise ApiError(404, f"There is no draft of {name}.")
    check_json(definition)
    command = PublishWorkflow(
        command_id=clock.new_root(), owner=who.tenancy, issued_at=clock.now(), name=name, definition=definition
    )
    await send_command(request, gateway, command, "The workflow")
    await gateway.store.transact(lambda c: c.execute(_DROP, {"n": name}))
    return {"name": name, "version": definition["version"], "command_id": command.command_id}
