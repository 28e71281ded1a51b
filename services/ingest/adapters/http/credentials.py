"""Who calls: a key, a token, or a signature of the request itself (`amx`)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.requests import Request

from contracts import Tenancy
from services.ingest.adapters import accounts
from services.ingest.adapters.http.errors import ApiError
from services.ingest.core import amx
from shared import clock
from shared.access import Principal

if TYPE_CHECKING:
    from services.ingest.adapters.http.context import Door

DIALECT = "/api/"
"""Signed requests are the vendor's; elsewhere a key is needed."""


@dataclass
class Unproven:
    """A signed upload whose body has still to be read: who it would be, and what it has to hash to."""

    header: amx.AmxHeader
    row: Any
    md5: Any


async def authenticate(request: Request, door: Door) -> Principal | None:
    """Who the request speaks for, or None. A signature is checked against the whole body, so it is read here, unless it is a form.

    Of a signed form this is who it claims to be: `prove` follows when the form has been read, before anything comes of it.
    """
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "amx":
        return await door.keyring.principal(request.headers)
    if not request.url.path.startswith(DIALECT):
        return None
    header = amx.parse(value)
    if header is None or not amx.fresh(header, clock.unix(), door.settings.amx_window_s):
        return None
    row = await door.store.read(lambda c: accounts.app_by_id(c, header.app_id))
    if row is None:
        return None
    if request.headers.get("content-type", "").startswith("multipart/"):
        request.state.unproven = Unproven(header, row, hashlib.md5(usedforsecurity=False))
    elif not await _right(request, door, header, row, amx.body_digest(amx.md5_of(await request.body()))):
        return None
    name = row.tenant_name or row.tenant_id
    return Principal(Tenancy(tenant_id=row.tenant_id, tenant_name=name, user_name=row.user_name), row.role)


async def prove(request: Request, door: Door) -> None:
    """Check the signature of a form that has been read. Raises 401."""
    unproven: Unproven | None = getattr(request.state, "unproven", None)
    if unproven is None:
        return
    digest = amx.body_digest(unproven.md5.digest())
    if not await _right(request, door, unproven.header, unproven.row, digest):
        raise ApiError(401, "The signature is not that of this request.")


async def _right(request: Request, door: Door, header: amx.AmxHeader, row: Any, digest: str) -> bool:
    key = amx.decode_key(row.api_key)
    if key is None or not amx.verified(header, key, request.method, target_of(request), digest):
        return False
    # Kept for longer than any clock in the window lets its header pass again.
    kept = 3 * door.settings.amx_window_s
    return await door.store.transact(lambda c: accounts.use_nonce(c, header.app_id, header.nonce, clock.unix(), kept))


def target_of(request: Request) -> amx.Target:
    """The URL as the client wrote it. Behind a proxy that ends TLS we cannot know the scheme, so both count."""
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    host = request.headers.get("host", "")
    return amx.Target(("https", "http"), host, raw.decode("latin-1"), request.scope["query_string"].decode("latin-1"))
