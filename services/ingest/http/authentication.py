"""Who calls: a key, a token, or a signature of the request itself (`amx`)."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from contracts import Tenancy
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store import accounts
from services.ingest.core import amx
from services.ingest.http.errors import ApiError
from shared import clock
from shared.web.api_keys import Principal

DIALECT = "/api/"
"""Signed requests are the vendor's; elsewhere a key is needed."""


@dataclass(frozen=True)
class Claim:
    """Who an upload says it is from, while its body is still to be read."""

    claimed: Principal
    observe: Callable[[bytes], None]
    """Takes every chunk of the body, in order."""
    prove: Callable[[], Awaitable[None]]
    """Raises 401 when the body that was observed is not the one that was signed."""


async def authenticate(request: Request, gateway: Gateway) -> Principal | None:
    """The verified principal of a request, or None. A signature covers the body, so the body is read here, whatever its media type."""
    if not _is_signed(request):
        return await gateway.keyring.authenticate(request.headers)
    found = await _signer(request, gateway)
    if found is None or not await _verify(request, gateway, *found, amx.body_digest(amx.md5_of(await request.body()))):
        return None
    return _principal(found[1])


async def claim(request: Request, gateway: Gateway) -> Claim | None:
    """For the upload alone, whose body is too large to be read first: its caller, to be proven once the body has been observed.

    None when nobody with that key exists, or when anything else than a signed form fails to authenticate.
    """
    if not _is_signed(request) or not request.headers.get("content-type", "").startswith("multipart/form-data"):
        principal = await authenticate(request, gateway)
        return None if principal is None else Claim(principal, _ignore, _proven)
    found = await _signer(request, gateway)
    if found is None:
        return None
    header, row = found
    md5 = hashlib.md5(usedforsecurity=False)

    async def prove() -> None:
        if not await _verify(request, gateway, header, row, amx.body_digest(md5.digest())):
            raise ApiError(401, "The signature is not that of this request.")

    return Claim(_principal(row), md5.update, prove)


def _ignore(chunk: bytes) -> None:
    """Nothing to observe: the caller is proven already."""


async def _proven() -> None:
    """Nothing to prove: the caller is proven already."""


def _is_signed(request: Request) -> bool:
    return request.headers.get("authorization", "").partition(" ")[0].lower() == "amx"


async def _signer(request: Request, gateway: Gateway) -> tuple[amx.AmxHeader, Any] | None:
    """The signature's header and the application that it names; None where there is no such application, or the clock is off."""
    if not request.url.path.startswith(DIALECT):
        return None
    header = amx.parse(request.headers["authorization"].partition(" ")[2])
    if header is None or not amx.fresh(header, clock.unix(), gateway.settings.amx_window_s):
        return None
    row = await gateway.store.read(lambda c: accounts.app_by_id(c, header.app_id))
    return None if row is None else (header, row)


def _principal(row: Any) -> Principal:
    name = row.tenant_name or row.tenant_id
    return Principal(Tenancy(tenant_id=row.tenant_id, tenant_name=name, user_name=row.user_name), row.role)


async def _verify(request: Request, gateway: Gateway, header: amx.AmxHeader, row: Any, digest: str) -> bool:
    key = amx.decode_key(row.api_key)
    if key is None or not amx.verified(header, key, request.method, target_of(request), digest):
        return False
    # Kept for longer than any clock in the window lets its header pass again.
    kept = 3 * gateway.settings.amx_window_s
    return await gateway.store.transact(lambda c: accounts.use_nonce(c, header.app_id, header.nonce, clock.unix(), kept))


def target_of(request: Request) -> amx.Target:
    """The URL as the client wrote it. Behind a proxy that ends TLS we cannot know the scheme, so both count."""
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    host = request.headers.get("host", "")
    return amx.Target(("https", "http"), host, raw.decode("latin-1"), request.scope["query_string"].decode("latin-1"))
