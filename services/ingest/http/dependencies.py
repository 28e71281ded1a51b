"""What every route needs: who calls, what to read from, where to publish."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Request

from contracts.identity import PLATFORM_TENANT as PLATFORM_TENANT
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store.quotas import OverLimit, Rate
from services.ingest.http.authentication import UploadClaim, authenticate, claim_upload
from services.ingest.http.errors import ApiError
from services.ingest.http.idempotency import is_repeat
from shared.web.api_keys import NEEDS_KEY as NEEDS_KEY
from shared.web.api_keys import Principal


async def gateway_of(request: Request) -> Gateway:
    """The application's gateway. A coroutine, because the framework runs a plain function in a thread."""
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
    roles = ("producer", "operator")
    if claim.proven:
        await _admit(request, gateway, claim.claimed, roles)
    else:
        # Before the proof at the end of the body, a stranger must neither use up a tenant's rate nor learn a role.
        claim.admit.append(lambda: _admit(request, gateway, claim.claimed, roles))
    return claim


def right(name: str, *roles: str) -> Callable[[Request, Gateway], Any]:
    """A dependency that admits the named roles, if the caller has the right too. Raises as `caller`."""

    async def admit(request: Request, gateway: GatewayDep) -> Principal:
        principal: Principal = await caller(*roles)(request, gateway)
        if not principal.has_right(name):
            raise ApiError(403, f"The right {name!r} is needed, and this key does not have it.")
        return principal

    return admit


async def _take_request(request: Request, gateway: Gateway, principal: Principal) -> Rate:
    """Count the request. A repeat under an idempotency key is admitted also when the tenant's minute is used up; repeats have a minute
    of their own, as long, so that one known key is no way around the rate."""
    tenant = principal.tenant_id
    try:
        return await gateway.limits.take_request(tenant)
    except OverLimit:
        if not await is_repeat(request, gateway, principal):
            raise
        return await gateway.limits.take(f"repeats:{tenant}", (await gateway.limits.quotas(tenant)).requests_per_minute)


async def _admit(request: Request, gateway: Gateway, principal: Principal, roles: tuple[str, ...]) -> None:
    request.state.rate = await _take_request(request, gateway, principal)
    if not principal.may(*roles):
        raise ApiError(403, f"The key's role {principal.role!r} may not do this.")


Writer = Annotated[Principal, Depends(caller("producer", "operator"))]
Reader = Annotated[Principal, Depends(caller("reader", "producer", "operator"))]
Sharer = Annotated[Principal, Depends(right("share", "reader", "producer", "operator"))]
"""May make and revoke links that anybody can use."""
Operator = Annotated[Principal, Depends(caller("operator"))]
Uploader = Annotated[UploadClaim, Depends(_uploader)]
"""For the multipart upload alone. The caller of a signed form is proven only when its body is read to the end. Do nothing for the
caller before, and read the body by `claim.body()` alone."""
Admin = Annotated[Principal, Depends(caller())]
