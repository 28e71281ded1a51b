"""Who calls: a key, a token, or a signature of the request itself (`amx`)."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
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

SIGNED_PATHS = "/api/"
"""Signed requests belong to Alfred's dialect; elsewhere a key is needed."""


@dataclass(frozen=True)
class UploadClaim:
    """An upload whose caller may still have to be proven by the signature of its body."""

    claimed: Principal
    body: AsyncIterator[bytes]
    """The request's body. A signed one raises 401 at its end unless the signature covers every byte read."""


@dataclass(frozen=True)
class _Signature:
    """A signature that is not verified yet, and the application that it names."""

    header: amx.AmxHeader
    app: Any

    @property
    def principal(self) -> Principal:
        app = self.app
        return Principal(
            Tenancy(tenant_id=app.tenant_id, tenant_name=app.tenant_name or app.tenant_id, user_name=app.user_name), app.role
        )


async def authenticate(request: Request, gateway: Gateway) -> Principal | None:
    """The verified principal of a request, or None. A signature covers the body, so a signed body is read here, of any media type."""
    if not _is_signed(request):
        return await gateway.keyring.authenticate(request.headers)
    signature = await _signature(request, gateway)
    if signature is None or not await _verify(request, gateway, signature, amx.body_digest(amx.md5_of(await request.body()))):
        return None
    return signature.principal


async def claim_upload(request: Request, gateway: Gateway) -> UploadClaim | None:
    """The claim of a multipart upload, whose body is too large to be read before its caller is known. None without a valid credential."""
    if not _is_signed(request) or not request.headers.get("content-type", "").startswith("multipart/form-data"):
        principal = await authenticate(request, gateway)
        return None if principal is None else UploadClaim(principal, request.stream())
    signature = await _signature(request, gateway)
    return None if signature is None else UploadClaim(signature.principal, _verified_body(request, gateway, signature))


async def _verified_body(request: Request, gateway: Gateway, signature: _Signature) -> AsyncIterator[bytes]:
    md5 = hashlib.md5(usedforsecurity=False)
    async for chunk in request.stream():
        md5.update(chunk)
        yield chunk
    if not await _verify(request, gateway, signature, amx.body_digest(md5.digest())):
        raise ApiError(401, "The signature does not match the request.")


def _is_signed(request: Request) -> bool:
    return request.headers.get("authorization", "").partition(" ")[0].lower() == "amx"


async def _signature(request: Request, gateway: Gateway) -> _Signature | None:
    """The request's signature; None when it is malformed, its application is unknown, or the client's clock is off."""
    if not request.url.path.startswith(SIGNED_PATHS):
        return None
    header = amx.parse(request.headers["authorization"].partition(" ")[2])
    if header is None or not amx.fresh(header, clock.unix(), gateway.settings.amx_window_s):
        return None
    app = await gateway.store.read(lambda c: accounts.app_by_id(c, header.app_id))
    return None if app is None else _Signature(header, app)


async def _verify(request: Request, gateway: Gateway, signature: _Signature, digest: str) -> bool:
    """True when the signature is that of this request, and its nonce was not used before."""
    header, key = signature.header, amx.decode_key(signature.app.api_key)
    if key is None or not amx.verified(header, key, request.method, target_of(request), digest):
        return False
    # Longer than any clock within the window lets the same header pass again.
    remember_s = 3 * gateway.settings.amx_window_s
    return await gateway.store.transact(lambda c: accounts.use_nonce(c, header.app_id, header.nonce, clock.unix(), remember_s))


def target_of(request: Request) -> amx.Target:
    """The URL as the client wrote it. A proxy may end TLS, so the scheme is unknown here and both are accepted."""
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    host = request.headers.get("host", "")
    return amx.Target(("https", "http"), host, raw.decode("latin-1"), request.scope["query_string"].decode("latin-1"))
