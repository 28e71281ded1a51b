"""What every route needs: who calls, what to read from, where to publish."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Request

from services.ingest.adapters.gateway import Gateway
from services.ingest.http.authentication import Claim, authenticate, claim
from services.ingest.http.errors import ApiError
from shared.web.api_keys import Principal


def gateway_of(request: Request) -> Gateway:
    """The door's parts."""
    gateway: Gateway = request.app.state.gateway
    return gateway


GatewayDep = Annotated[Gateway, Depends(gateway_of)]
NEEDS_KEY = "A valid key is needed: X-TagshelfAPI-Key, or Authorization: Bearer."


def caller(*roles: str) -> Callable[[Request, Gateway], Any]:
    """A dependency that admits the named roles (and `admin`). 401 without a valid key, 403 with the wrong role, 429 past the rate."""

    async def admit(request: Request, gateway: GatewayDep) -> Principal:
        return await _admitted(request, gateway, await authenticate(request, gateway), roles)

    return admit


async def _uploader(request: Request, gateway: GatewayDep) -> Claim:
    claimed = await claim(request, gateway)
    if claimed is None:
        raise ApiError(401, NEEDS_KEY)
    await _admitted(request, gateway, claimed.claimed, ("producer", "operator"))
    return claimed


async def _admitted(request: Request, gateway: Gateway, principal: Principal | None, roles: tuple[str, ...]) -> Principal:
    if principal is None:
        raise ApiError(401, NEEDS_KEY)
    request.state.rate = await gateway.limits.request(principal.tenant_id)
    if not principal.may(*roles):
        raise ApiError(403, f"The key's role {principal.role!r} may not do this.")
    return principal


Writer = Annotated[Principal, Depends(caller("producer", "operator"))]
Reader = Annotated[Principal, Depends(caller("reader", "producer", "operator"))]
Operator = Annotated[Principal, Depends(caller("operator"))]
Uploader = Annotated[Claim, Depends(_uploader)]
"""The multipart upload alone: a signed form is proven after it has been read, and nothing may come of it before."""
Admin = Annotated[Principal, Depends(caller())]
