"""What every route needs: who calls, what to read from, where to publish."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Request

from services.ingest.adapters.gateway import Gateway
from services.ingest.http.authentication import UploadClaim, authenticate, claim_upload
from services.ingest.http.errors import ApiError
from shared.web.api_keys import Principal

PLATFORM_TENANT = "default"
"""The tenant whose admins and operators act for all tenants."""
NEEDS_KEY = "A valid key is needed: X-TagshelfAPI-Key, or Authorization: Bearer."


def gateway_of(request: Request) -> Gateway:
    """The application's gateway."""
    gateway: Gateway = request.app.state.gateway
    return gateway


GatewayDep = Annotated[Gateway, Depends(gateway_of)]


def caller(*roles: str) -> Callable[[Request, Gateway], Any]:
    """A dependency that admits the named roles (and `admin`). Raises 401 without a valid key, 403 for another role, 429 past the rate."""

    async def admit(request: Request, gateway: GatewayDep) -> Principal:
        principal = await authenticate(request, gateway)
        if principal is None:
            raise ApiError(401, NEEDS_KEY)
        await _admit(request, gateway, principal, roles)
        return principal

    return admit


async def _uploader(request: Request, gateway: GatewayDep) -> UploadClaim:
    claim = await claim_upload(request, gateway)
    if claim is None:
        raise ApiError(401, NEEDS_KEY)
    await _admit(request, gateway, claim.claimed, ("producer", "operator"))
    return claim


async def _admit(request: Request, gateway: Gateway, principal: Principal, roles: tuple[str, ...]) -> None:
    request.state.rate = await gateway.limits.take_request(principal.tenant_id)
    if not principal.may(*roles):
        raise ApiError(403, f"The key's role {principal.role!r} may not do this.")


Writer = Annotated[Principal, Depends(caller("producer", "operator"))]
Reader = Annotated[Principal, Depends(caller("reader", "producer", "operator"))]
Operator = Annotated[Principal, Depends(caller("operator"))]
Uploader = Annotated[UploadClaim, Depends(_uploader)]
"""For the multipart upload alone. The caller of a signed form is proven only when its body is read to the end. Do nothing for the
caller before."""
Admin = Annotated[Principal, Depends(caller())]
