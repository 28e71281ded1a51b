"""`POST /token`: OAuth's password grant as Alfred's clients use it (reference/vendor-apis.md §1.7; RFC 6749 §4.3, §5.2)."""

from __future__ import annotations

from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from contracts import AccessKeyIssued
from contracts.topics import ACCESS_EVENTS_TOPIC
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store import accounts
from services.ingest.http.dependencies import GatewayDep
from services.ingest.http.passwords import NO_PASSWORD, matches
from shared import clock
from shared.processing.unit_of_work import Unit
from shared.web.api_keys import enter_key, forget_expired
from shared.web.key_format import key_hash, new_key

router = APIRouter(tags=["Alfred"], max_body_size=16 << 10)
FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "type": "object",
                    "required": ["grant_type", "username", "password"],
                    "properties": {
                        "grant_type": {"type": "string", "enum": ["password"]},
                        "username": {"type": "string", "minLength": 1},
                        "password": {"type": "string", "minLength": 1},
                    },
                }
            }
        },
    }
}


def refused(code: str, message: str, status: int = 400) -> JSONResponse:
    """OAuth's error body, with the dialect's `message` beside it."""
    return JSONResponse({"error": code, "error_description": message, "message": message}, status)


@router.post("/token", summary="Sign in with a password", openapi_extra=FORM)
async def token(request: Request, gateway: GatewayDep) -> Response:
    """Returns `access_token`, `token_type`, `expires_in` (seconds), `userName`, `.issued` and `.expires`.

    A wrong name or password is 400 `invalid_grant`. Too many attempts for one name in a minute are 429.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        return refused("invalid_request", "content-type: application/x-www-form-urlencoded is expected")
    try:
        fields = parse_qs((await request.body()).decode(), max_num_fields=20, keep_blank_values=True)
    except ValueError:
        return refused("invalid_request", "body: not a form in UTF-8")
    grant, user_name, password = ((fields.get(name) or [""])[-1] for name in ("grant_type", "username", "password"))
    if grant != "password":
        return refused("unsupported_grant_type", "grant_type: only password is supported")
    if not 0 < len(user_name) <= 200 or not 0 < len(password) <= 1000 or "\x00" in user_name:
        return refused("invalid_request", "username, password: required, at most 200 and 1000 characters")
    await gateway.limits.take(f"signin:{user_name}", gateway.settings.signins_per_minute)
    user = await gateway.store.read(lambda c: accounts.user_by_name(c, user_name))
    if not await matches(user.password_hash if user else NO_PASSWORD, password) or user is None or user.disabled:
        return refused("invalid_grant", "The user name or password is incorrect.")
    return JSONResponse(await _issue(gateway, user), headers={"cache-control": "no-store"})


async def _issue(gateway: Gateway, user: Any) -> dict[str, Any]:
    key, issued = new_key(), clock.now()
    expires = issued + timedelta(seconds=gateway.settings.token_ttl_s)
    event = AccessKeyIssued(
        event_id=clock.new_root(), key_hash=key_hash(key), tenant_id=user.tenant_id, tenant_name=user.tenant_name or user.tenant_id,
        user_name=user.user_name, role=user.role, prefix=key[:8], occurred_at=issued, expires_at=expires,
    )  # fmt: skip

    def enter(unit: Unit) -> None:
        forget_expired(unit, owns_topic=True)
        enter_key(unit.connection, event)
        unit.emit(ACCESS_EVENTS_TOPIC.name, event, None)

    await gateway.processor.run_unit(enter)
    return {
        "access_token": key, "token_type": "bearer", "expires_in": gateway.settings.token_ttl_s, "userName": user.user_name,
        ".issued": _http_date(issued), ".expires": _http_date(expires),
    }  # fmt: skip


def _http_date(at: datetime) -> str:
    return format_datetime(at, usegmt=True)
