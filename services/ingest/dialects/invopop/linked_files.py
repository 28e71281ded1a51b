"""Invopop's dialect: the addresses of files that answers have. The link is the credential, as long as the key that it was given to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.signed_links import Link
from services.ingest.dialects.invopop.links import ENTRY_FILE, LINKS
from services.ingest.dialects.invopop.silo_files import receive_content, send_content
from services.ingest.http.audit_trail import DOWNLOAD
from services.ingest.http.dependencies import GatewayDep
from services.ingest.http.download import send
from services.ingest.http.errors import ApiError
from shared import clock
from shared.web.api_keys import KEY_CREDENTIAL, Principal
from shared.web.revocation import hold_request

router = APIRouter(prefix=LINKS, tags=["Invopop"])
OVER = "The link does not exist or has expired. The answer that shows the file has a new one."


async def _open(request: Request, gateway: Gateway, token: str) -> tuple[Link, Principal]:
    """What the token leads to, and on whose behalf. Raises 404 for one that is over, or whose key is; 429 past the tenant's rate."""
    link = (await gateway.signed_links.seal()).link(token, clock.unix())
    kind, _, digest = link.credential.partition(":") if link is not None else ("", "", "")
    who = await gateway.keyring.holder_of(digest) if kind == KEY_CREDENTIAL else None
    if link is None or who is None or who.tenant_id != link.tenant_id:
        raise ApiError(404, OVER)
    hold_request(request, link.credential)
    request.state.rate = await gateway.limits.take_request(who.tenant_id)
    return link, who


@router.get("/{token}", summary="Download a file by its address", response_class=Response, dependencies=[DOWNLOAD])
async def read_link(token: str, request: Request, gateway: GatewayDep) -> Response:
    """No key is needed: `url` of files and attachments is such a link. It holds for 15 minutes, and ends with the key that got it."""
    link, who = await _open(request, gateway, token)
    request.state.shared_link = SimpleNamespace(tenant_id=who.tenant_id, file_id=f"{link.owner_id}/{link.part}")
    if link.kind == ENTRY_FILE:
        return await send_content(request, gateway, who, link.owner_id, link.part)
    record = await gateway.record(link.kind, link.owner_id, who.tenant_id)
    made = (record or {}).get("outputs") or []
    if int(link.part) > len(made):
        raise ApiError(404, OVER)
    output = made[int(link.part) - 1]
    objects = gateway.objects.of(who.tenant_id)
    return await send(request, objects, output["blob_name"], output["file_name"], output["content_type"])


@router.put("/{token}", summary="Upload the bytes of an announced file")
async def write_link(token: str, request: Request, gateway: GatewayDep) -> dict[str, Any]:
    """The bytes must match the announced size and hash; otherwise 422. 403 where the key that got the link may only read."""
    link, who = await _open(request, gateway, token)
    if link.kind != ENTRY_FILE:
        raise ApiError(403, "This file cannot be replaced.")
    if not who.may("producer", "operator"):
        raise ApiError(403, f"The key's role {who.role!r} may not do this.")
    return await receive_content(request, gateway, who, link.owner_id, link.part)
