"""The administration of the Conversion Service's connections and profiles, under /v1."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import text

from services.ingest.adapters.store.audit import add_audit
from services.ingest.core.fields import Flag
from services.ingest.dialects.pdftools.common import checked_options, resolve_workflow
from services.ingest.dialects.pdftools.names import DEFAULT_PROFILE
from services.ingest.dialects.pdftools.simple_api import ConnectionId
from services.ingest.http.answers.accounts import ConversionConnection, ConversionProfile
from services.ingest.http.dependencies import Admin, GatewayDep
from services.ingest.http.errors import ApiError
from shared import clock
from shared.net.address_guard import AddressRefused, check_url
from shared.web.openapi import answered

router = APIRouter(prefix="/v1/conversion", tags=["Conversion Service"], max_body_size=64 << 10)


class Profile(BaseModel):
    """Default options of a workflow. Options of a job override them, options of a document override both."""

    model_config = ConfigDict(extra="forbid")

    options: list[dict[str, Any]] = Field(default_factory=list, max_length=100)
    is_default: Flag = False


class Connection(BaseModel):
    """What an input runs. With `output_url` it answers 202 and sends the results there."""

    model_config = ConfigDict(extra="forbid")

    workflow: str = Field(min_length=1, max_length=200)
    profile: str = Field(default=DEFAULT_PROFILE, min_length=1, max_length=100)
    output_url: str | None = Field(default=None, max_length=2048)


@router.put(
    "/profiles/{workflow:path}/{name}",
    summary="Create or edit a profile",
    operation_id="putConversionProfile",
    responses=answered(ConversionProfile),
)
async def put_profile(
    workflow: Annotated[str, Path(max_length=200)],
    name: ConnectionId,
    gateway: GatewayDep,
    who: Admin,
    body: Annotated[Profile, Body()],
) -> dict[str, Any]:
    """`workflow` is a name of `listWorkflows`."""
    pairs = checked_options(body.options, 400)
    workflow, *_ = await resolve_workflow(gateway, who, workflow, None)
    values = {"t": who.tenant_id, "w": workflow, "n": name, "o": json.dumps(list(pairs)), "d": body.is_default}
    save = text(
        "INSERT INTO conversion_profile (tenant_id, workflow, name, options, is_default) VALUES (:t, :w, :n, :o, :d) "
        "ON CONFLICT (tenant_id, workflow, name) DO UPDATE SET options = excluded.options, is_default = excluded.is_default"
    )

    def work(c: Any) -> None:
        if body.is_default:
            others = text("UPDATE conversion_profile SET is_default = :no WHERE tenant_id = :t AND workflow = :w")
            c.execute(others, {"no": False, "t": who.tenant_id, "w": workflow})
        c.execute(save, values)
        add_audit(c, who, clock.unix(), "profile.put", f"{workflow}/{name}")

    await gateway.store.transact(work)
    return {"workflow": workflow, "name": name, "is_default": body.is_default}


@router.put(
    "/connections/{connection_id}",
    summary="Create or edit a connection",
    operation_id="putConversionConnection",
    responses=answered(ConversionConnection),
)
async def put_connection(
    connection_id: ConnectionId, gateway: GatewayDep, who: Admin, body: Annotated[Connection, Body()]
) -> dict[str, Any]:
    """Run it by `POST /conversion/v1.0/rest/http.input/{id}`."""
    theirs, _, profile, _ = await resolve_workflow(gateway, who, body.workflow, body.profile)
    if body.output_url is not None:
        try:
            check_url(body.output_url, gateway.settings.trusted)
        except AddressRefused as error:
            raise ApiError(400, f"output_url: {error}", "output_url") from None
    values = {"t": who.tenant_id, "i": connection_id, "w": theirs, "p": profile, "u": body.output_url}
    save = text(
        "INSERT INTO conversion_connection (tenant_id, id, workflow, profile, output_url) VALUES (:t, :i, :w, :p, :u) ON CONFLICT (tenant_id, id) "
        "DO UPDATE SET workflow = excluded.workflow, profile = excluded.profile, output_url = excluded.output_url"
    )

    def work(c: Any) -> None:
        c.execute(save, values)
        add_audit(c, who, clock.unix(), "connection.put", connection_id)

    await gateway.store.transact(work)
    return {"id": connection_id, "workflow": theirs, "profile": profile, "output_url": body.output_url}


@router.delete(
    "/connections/{connection_id}", status_code=204, summary="Delete a connection", operation_id="deleteConversionConnection"
)
async def delete_connection(connection_id: ConnectionId, gateway: GatewayDep, who: Admin) -> None:
    """Jobs that it started go on."""
    drop = text("DELETE FROM conversion_connection WHERE tenant_id = :t AND id = :i")

    def work(c: Any) -> int:
        add_audit(c, who, clock.unix(), "connection.delete", connection_id)
        return int(c.execute(drop, {"t": who.tenant_id, "i": connection_id}).rowcount)

    if not await gateway.store.transact(work):
        raise ApiError(404, f"There is no connection {connection_id}.")
