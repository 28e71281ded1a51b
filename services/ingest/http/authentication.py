"""Who calls: a key, a token, or a signature of the request itself (`amx`). Proof comes before the principal."""

from __future__ import annotations

import hashlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import ClientDisconnect, Request

from contracts import Tenancy
from services.ingest.adapters.gateway import AMX_CREDENTIAL, Gateway
from services.ingest.adapters.store import accounts
from services.ingest.adapters.store.quotas import OverLimit
from services.ingest.core import amx
from services.ingest.http.errors import ApiError
from shared import clock
from shared.objects.object_store import TooLarge
from shared.web.api_keys import Principal
from shared.web.client_address import client_address
from shared.web.head_requests import asked_method
from shared.web.revocation import hold_request

SIGNED_PATHS = "/api/"
"""Signed requests belong to Alfred's dialect; elsewhere a key is needed."""
HINTS = {
    "amx_header": "The amx signature is malformed: amx secretKey:signature:nonce:seconds is expected.",
    "amx_path": "Signed requests are valid under /api alone. Elsewhere a key is needed.",
    "amx_clock": "The client's clock is off: the request is signed for {theirs}, the server's time is {ours} (Unix seconds).",
    "amx_nonce": "The nonce was used before: each request needs a new one.",
    "amx_signature": "The signature is not that of this request: its method, URL or body differs, or the credentials are wrong.",
}
"""Reason of a refusal → what the client reads. An unknown application reads the same as a wrong signature."""
UNKNOWN_KEY = bytes(32)
"""Verified against for unknown applications, so that the answer takes as long as for known ones."""
FORM_OVERHEAD = 1 << 20
"""Bytes of an upload beside its file at most, while its caller is not proven."""
MOST_UNPROVEN = 30
"""Uploads with a wrong signature in a minute after which an address may stream no further ones."""


@dataclass(frozen=True)
class _Signature:
    """A signature that is not verified yet, and the application that it names, if there is one."""

    header: amx.AmxHeader
    app: Any

    @property
    def principal(self) -> Principal:
        app = self.app
        if app is None:
            return Principal(Tenancy(tenant_id="unknown", tenant_name="", user_name=""), "")
        tenancy = Tenancy(tenant_id=app.tenant_id, tenant_name=app.tenant_name or app.tenant_id, user_name=app.user_name)
        return Principal(tenancy, app.role, frozenset((app.rights or "").split()), f"{AMX_CREDENTIAL}:{app.app_id}")


@dataclass
class UploadClaim:
    """An upload whose caller may still have to be proven by the signature of its body."""

    claimed: Principal
    """The caller; before the proof, only the one that the request names."""
    proven: bool
    chunks: AsyncIterator[bytes]
    """The request's body. A signed one raises 401 at its end unless the signature covers every byte read."""
    admit: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    """Checks of role and quotas, which run as soon as the caller is proven. They raise the answer of a refusal."""

    async def body(self) -> AsyncIterator[bytes]:
        """The body; the checks run before its first byte, or at its end where the end is the proof."""
        if self.proven:
            await self._check()
        async for chunk in self.chunks:
            yield chunk
        if not self.proven:
            await self._check()

    async def require_proof(self) -> None:
        """Read the rest of a body that could not be used, so that an unproven caller gets 401 and no other answer. Raises 401."""
        if not self.proven:
            try:
                async for _ in self.chunks:
                    pass
            except (TooLarge, ClientDisconnect):
                return  # too large and gone clients get the same answer, proven or not

    async def _check(self) -> None:
        for check in self.admit:
            await check()


async def authenticate(request: Request, gateway: Gateway) -> Principal | None:
    """The verified principal of a request; None without a valid key. A wrong signature raises 401 with a hint.

    A signature covers the body, so a signed body is read here, of any media type.
    """
    if not _is_signed(request):
        principal = await gateway.keyring.authenticate(request.headers)
        return None if principal is None else _enter(request, principal)
    signature = await _signature(request, gateway)
    await _verify(request, gateway, signature, amx.body_digest(amx.md5_of(await request.body())))
    return _enter(request, signature.principal)


async def claim_upload(request: Request, gateway: Gateway) -> UploadClaim | None:
    """The claim of an upload, whose body is too large to be read before its caller is known. None without a valid key."""
    if not _is_signed(request):
        principal = await authenticate(request, gateway)
        return None if principal is None else UploadClaim(principal, True, request.stream())
    if gateway.unproven_uploads.get(client_address(request.scope), 0) >= MOST_UNPROVEN:
        raise OverLimit("Too many uploads of this address had a wrong signature.", 60)
    signature = await _signature(request, gateway)
    return UploadClaim(signature.principal, False, _verified_body(request, gateway, signature))


def _enter(request: Request, principal: Principal) -> Principal:
    """Note the caller for the audit, and end the request once its credential ends."""
    request.state.principal = principal
    hold_request(request, principal.credential)
    return principal


async def _verified_body(request: Request, gateway: Gateway, signature: _Signature) -> AsyncIterator[bytes]:
    most = gateway.settings.max_file_bytes + FORM_OVERHEAD
    md5, size = hashlib.md5(usedforsecurity=False), 0
    async for chunk in request.stream():
        md5.update(chunk)
        size += len(chunk)
        if size > most:
            raise TooLarge("too_large", f"the file is larger than the limit of {gateway.settings.max_file_bytes} bytes")
        yield chunk
    try:
        await _verify(request, gateway, signature, amx.body_digest(md5.digest() if size else None))
    except ApiError:
        address = client_address(request.scope)
        gateway.unproven_uploads[address] = gateway.unproven_uploads.get(address, 0) + 1
        raise
    _enter(request, signature.principal)


def _is_signed(request: Request) -> bool:
    return request.headers.get("authorization", "").partition(" ")[0].lower() == "amx"


async def _signature(request: Request, gateway: Gateway) -> _Signature:
    """The request's signature, of a known application or not. Raises 401 when it is malformed or the client's clock is off."""
    header = amx.parse(request.headers["authorization"].partition(" ")[2])
    if not request.url.path.startswith(SIGNED_PATHS):
        raise _refused(request, "amx_path", header)
    if header is None:
        raise _refused(request, "amx_header", None)
    now = clock.unix()
    if not amx.fresh(header, now, gateway.settings.amx_window_s):
        raise _refused(request, "amx_clock", header, theirs=header.timestamp, ours=math.floor(now))
    return _Signature(header, await gateway.store.read(lambda c: accounts.app_by_id(c, header.app_id)))


async def _verify(request: Request, gateway: Gateway, signature: _Signature, digest: str) -> None:
    """Raises 401 unless the signature is that of this request, and its nonce was not used before."""
    header, app = signature.header, signature.app
    key = (amx.decode_key(app.api_key) if app is not None else None) or UNKNOWN_KEY
    right = amx.verified(header, key, asked_method(request.scope), target_of(request), digest)
    if app is None or key is UNKNOWN_KEY or not right:
        raise _refused(request, "amx_signature", header, known=app is not None)
    # Longer than any clock within the window lets the same header pass again.
    remember_s = 3 * gateway.settings.amx_window_s
    if not await gateway.store.transact(lambda c: accounts.use_nonce(c, header.app_id, header.nonce, clock.unix(), remember_s)):
        raise _refused(request, "amx_nonce", header)


def _refused(request: Request, reason: str, header: amx.AmxHeader | None, known: bool = True, **facts: Any) -> ApiError:
    """The answer to a wrong signature. The operator's log and the audit get the reason, also that the application is unknown."""
    request.state.refusal = reason if known else "amx_unknown_key"
    request.state.application = header.app_id if header is not None else None
    return ApiError(401, HINTS[reason].format(**facts))


def target_of(request: Request) -> amx.Target:
    """The URL as the client wrote it. A proxy may end TLS, so the scheme is unknown here and both are accepted."""
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    host = request.headers.get("host", "")
    return amx.Target(("https", "http"), host, raw.decode("latin-1"), request.scope["query_string"].decode("latin-1"))
