"""`POST /token`: OAuth's password grant as Alfred's clients use it (reference/vendor-apis.md §1.7; RFC 6749 §4.3, §5.2)."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse, Response

from contracts import AccessKeyIssued
from contracts.loose import check_json
from contracts.topics import ACCESS_EVENTS_TOPIC
from services.ingest.adapters.gateway import Gateway
from services.ingest.http.dependencies import GatewayDep
from services.ingest.http.sign_in import Attempt
from shared import clock
from shared.processing.unit_of_work import Unit
from shared.web.api_keys import enter_key, forget_expired
from shared.web.client_address import client_address
from shared.web.key_format import key_hash, new_key

router = APIRouter(tags=["Alfred"], max_body_size=16 << 10)
URLENCODED, JSON = "application/x-www-form-urlencoded", "application/json"
FORM = {
    "requestBody": {
        "required": True,
        "content": {
            kind: {
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
            for kind in (URLENCODED, JSON)
        },
    }
}


def refused(code: str, message: str, status: int = 400) -> JSONResponse:
    """OAuth's error body, with the dialect's `message` beside it."""
    return JSONResponse({"error": code, "error_description": message, "message": message}, status)


@router.post("/token", summary="Sign in with a password", openapi_extra=FORM)
async def token(request: Request, gateway: GatewayDep) -> Response:
    """Returns `access_token`, `token_type`, `expires_in` (seconds), `userName`, `.issued` and `.expires`.

    A wrong name or password is 400 `invalid_grant`. Too many attempts of one address, or of all together, are 429, and so is an
    attempt that comes too soon after several wrong ones at the same name. 503 when too many passwords wait to be checked.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (URLENCODED, JSON):
        return refused("invalid_request", f"content-type: {URLENCODED} or {JSON} is expected")
    try:
        fields = _fields(await request.body(), kind)
    except (ValueError, RecursionError):
        return refused("invalid_request", "body: a form in UTF-8 or a JSON object of texts is expected")
    grant, user_name, password = (fields.get(name, "") for name in ("grant_type", "username", "password"))
    if grant != "password":
        return refused("unsupported_grant_type", "grant_type: only password is supported")
    if not 0 < len(user_name) <= 200 or not 0 < len(password) <= 1000 or "\x00" in user_name:
        return refused("invalid_request", "username, password: required, at most 200 and 1000 characters")
    attempt = Attempt(gateway, client_address(request.scope), user_name)
    user = await attempt.check(password)
    request.state.rate = attempt.rate
    if user is None:
        answer = refused("invalid_grant", "The user name or password is incorrect.")
        # After the answer, so that its time does not tell known names from unknown ones.
        answer.background = BackgroundTask(attempt.note_failure, "invalid_grant")
        return answer
    return JSONResponse(await _issue(gateway, attempt, user), headers={"cache-control": "no-store"})


def _fields(body: bytes, kind: str) -> dict[str, str]:
    """The fields of a form, or of a JSON object. The vendor's Node.js client sends its form as `application/json`.

    Raises `ValueError`, and `RecursionError` for JSON that is nested too deeply.
    """
    text = body.decode()
    if kind == JSON and text.lstrip()[:1] in ("{", "[", '"'):
        found = json.loads(text)
        if not isinstance(check_json(found), dict):
            raise ValueError("no object")
        return {name: value for name, value in found.items() if isinstance(value, str)}
    return {name: values[-1] for name, values in parse_qs(text, max_num_fields=20, keep_blank_values=True).items()}


async def _issue(gateway: Gateway, attempt: Attempt, user: Any) -> dict[str, Any]:
    key, issued = new_key(), clock.now()
    expires = issued + timedelta(seconds=gateway.settings.token_ttl_s)
    event = AccessKeyIssued(
        event_id=clock.new_root(), key_hash=key_hash(key), tenant_id=user.tenant_id, tenant_name=user.tenant_name or user.tenant_id,
        user_name=user.user_name, role=user.role, prefix=key[:8], occurred_at=issued, expires_at=expires,
        rights=tuple((user.rights or "").split()) or None,
    )  # fmt: skip

    def enter(unit: Unit) -> None:
        forget_expired(unit, owns_topic=True)
        enter_key(unit.connection, event)
        unit.emit(ACCESS_EVENTS_TOPIC.name, event, None)
        attempt.enter_success(unit.connection, user)

    await gateway.processor.run_unit(enter)
    return {
        "access_token": key, "token_type": "bearer", "expires_in": gateway.settings.token_ttl_s, "userName": user.user_name,
        ".issued": _http_date(issued), ".expires": _http_date(expires),
    }  # fmt: skip


def _http_date(at: datetime) -> str:
    return format_datetime(at, usegmt=True)
