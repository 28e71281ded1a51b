"""HTTP routes of the notifier: endpoints, their delivery logs, and the event stream."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, FastAPI, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, BaseModel, Field
from sqlalchemy import text
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response, StreamingResponse

from contracts.identity import plain_id
from services.notifier.adapters import sql_store as db
from services.notifier.adapters.answers import AttemptLog, CreatedEndpoint, EnabledEndpoint, Endpoints
from services.notifier.adapters.stream import BadCursor, EventStream, Item
from services.notifier.core.shapes import Shape
from services.notifier.core.signature import new_secret
from services.notifier.settings import NotifierSettings
from shared import clock
from shared.database.store import Store
from shared.net.address_guard import AddressRefused, check_url
from shared.processing.processor import BatchProcessor
from shared.web.api_keys import NEEDS_KEY, Keyring, Principal
from shared.web.concurrency import RETRY_AFTER_S, HeldRequests, TooMany, key_of
from shared.web.invalid_requests import faults_of
from shared.web.middleware import failure_handlers
from shared.web.openapi import answered
from shared.web.paths import routes_of
from shared.web.problem import problem_answer
from shared.web.revocation import hold_request

router = APIRouter()


@dataclass
class NotifierState:
    """The notifier's parts, on `app.state.notifier`."""

    settings: NotifierSettings
    store: Store
    processor: BatchProcessor
    keyring: Keyring
    stream: EventStream
    streams: HeldRequests
    """Open event streams and sockets."""


async def state_of(request: Request) -> NotifierState:
    """The notifier's parts, for a route. A coroutine, because the framework runs a plain function in a thread."""
    state: NotifierState = request.app.state.notifier
    return state


StateDep = Annotated[NotifierState, Depends(state_of)]


def problem(request: Request, status: int, code: str, message: str, field: str | None = None) -> JSONResponse:
    """An error response as problem details (RFC 9457)."""
    return problem_answer(status, code, message, field)


def caller(*roles: str) -> Any:
    """A dependency that admits the named roles and `admin`. 401 without a valid key, 403 with another role."""

    async def admit(request: Request, state: StateDep) -> Principal:
        principal = await state.keyring.authenticate(request.headers)
        if principal is None:
            raise HTTPException(401, NEEDS_KEY)
        hold_request(request, principal.credential)
        if not principal.may(*roles):
            raise HTTPException(403, f"The key's role {principal.role!r} may not do this.")
        return principal

    return Depends(admit)


Writer = Annotated[Principal, caller("producer", "operator")]
Reader = Annotated[Principal, caller("reader", "producer", "operator")]


async def _streaming(state: StateDep, who: Reader) -> AsyncIterator[Principal]:
    """The caller of a stream, counted from the request to the end of the stream. Raises `TooMany`."""
    with state.streams.hold(who.tenant_id, key_of(who)):
        yield who


Streaming = Annotated[Principal, Depends(_streaming)]


class NewEndpoint(BaseModel):
    """A webhook endpoint. `events` holds names or patterns such as `job.*` and `file.done`; empty means all events."""

    url: str = Field(max_length=2048, examples=["https://example.com/hooks/stageline"])
    events: list[Annotated[str, Field(min_length=1, max_length=100)]] = Field(default_factory=list, max_length=100)
    description: str = Field(default="", max_length=500)


@router.post(
    "/v1/webhooks",
    status_code=201,
    tags=["Webhooks"],
    summary="Register an endpoint",
    operation_id="createEndpoint",
    responses=answered(CreatedEndpoint, 201),
)
async def add_endpoint(state: StateDep, who: Writer, body: Annotated[NewEndpoint, Body()]) -> dict[str, Any]:
    """Returns the signing secret (Standard Webhooks). It is shown only once."""
    try:
        check_url(body.url, state.settings.trusted)
    except AddressRefused as error:
        raise HTTPException(400, str(error)) from None
    row = {
        "id": clock.new_root(), "tenant_id": who.tenant_id, "url": body.url, "secret": new_secret(secrets.token_bytes(32)),
        "events": json.dumps(body.events), "description": body.description, "created_at": clock.unix(),
        "disabled_reason": None, "failing_since": None, "shape": Shape.TYPED.value,
    }  # fmt: skip
    await state.store.transact(lambda c: c.execute(db.EndpointRow.__table__.insert(), row) and None)  # type: ignore[attr-defined]
    return {"id": row["id"], "url": body.url, "events": body.events, "secret": row["secret"]}


def _shown(row: Any) -> dict[str, Any]:
    return {
        "id": row.id, "url": row.url, "events": json.loads(row.events), "description": row.description,
        "created_at": row.created_at, "state": "disabled" if row.disabled_reason else "active",
        "disabled_reason": row.disabled_reason, "failing_since": row.failing_since, "shape": row.shape or Shape.TYPED.value,
    }  # fmt: skip


@router.get("/v1/webhooks", tags=["Webhooks"], summary="Endpoints", operation_id="listEndpoints", responses=answered(Endpoints))
async def list_endpoints(state: StateDep, who: Reader) -> dict[str, Any]:
    """The tenant's endpoints, without their secrets. `shape` is `typed`, or `alfred` or `alfred-flat` for the one of
    `POST /api/account/webhook`."""
    query = text("SELECT * FROM endpoint WHERE tenant_id = :t ORDER BY created_at")
    rows = await state.store.read(lambda c: c.execute(query, {"t": who.tenant_id}).all())
    return {"result": [_shown(row) for row in rows]}


async def _own(state: NotifierState, endpoint_id: str, tenant: str) -> None:
    query = text("SELECT 1 FROM endpoint WHERE id = :i AND tenant_id = :t")
    if await state.store.read(lambda c: c.execute(query, {"i": endpoint_id, "t": tenant}).scalar()) is None:
        raise HTTPException(404, f"Webhook with ID {endpoint_id} does not exist.")


@router.delete(
    "/v1/webhooks/{endpoint_id}", status_code=204, tags=["Webhooks"], summary="Delete an endpoint", operation_id="deleteEndpoint"
)
async def delete_endpoint(endpoint_id: str, state: StateDep, who: Writer) -> None:
    """Deletes the endpoint, its due deliveries and its log."""
    await _own(state, endpoint_id, who.tenant_id)

    def delete(c: Any) -> None:
        for statement in ("attempt WHERE endpoint_id", "delivery WHERE endpoint_id", "endpoint WHERE id"):
            c.execute(text(f"DELETE FROM {statement} = :e"), {"e": endpoint_id})

    await state.store.transact(delete)


@router.post(
    "/v1/webhooks/{endpoint_id}/enable",
    tags=["Webhooks"],
    summary="Enable an endpoint and send the suppressed deliveries",
    operation_id="enableEndpoint",
    responses=answered(EnabledEndpoint),
)
async def enable_endpoint(endpoint_id: str, state: StateDep, who: Writer) -> dict[str, int]:
    """Returns the number of suppressed deliveries that are due now."""
    await _own(state, endpoint_id, who.tenant_id)
    return {"due": await state.processor.run_unit(lambda unit: db.enable(unit.connection, endpoint_id, unit.now))}


@router.get(
    "/v1/webhooks/{endpoint_id}/log",
    tags=["Webhooks"],
    summary="Delivery attempts",
    operation_id="getDeliveryLog",
    responses=answered(AttemptLog),
)
async def attempt_log(
    endpoint_id: str, state: StateDep, who: Reader, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> dict[str, Any]:
    """Returns attempts, newest first, and the number of deliveries by state."""
    await _own(state, endpoint_id, who.tenant_id)
    query = text("SELECT * FROM attempt WHERE endpoint_id = :e ORDER BY attempted_at DESC, id LIMIT :n")
    count = text("SELECT state, count(*) AS n FROM delivery WHERE endpoint_id = :e GROUP BY state")
    values = {"e": endpoint_id, "n": limit}
    rows = await state.store.read(lambda c: c.execute(query, values).mappings().all())
    states = await state.store.read(lambda c: c.execute(count, {"e": endpoint_id}).all())
    return {"result": [dict(row) for row in rows], "deliveries": {s: n for s, n in states}}


@router.get(
    "/events/stream", tags=["Events"], summary="Server-sent events", operation_id="streamEvents", response_class=StreamingResponse
)
async def stream_events(
    state: StateDep,
    who: Streaming,
    last_event_id: Annotated[str | None, Header()] = None,
    after: Annotated[
        str | None, Query(max_length=20_000, description="A cursor, for clients that cannot set Last-Event-ID")
    ] = None,
    start: Annotated[str, Query(pattern="^(now|beginning)$")] = "now",
    types: Annotated[str, Query(max_length=2000, description="Comma-separated names or patterns")] = "",
    job_id: Annotated[str | None, Query(max_length=200), AfterValidator(plain_id)] = None,
) -> Response:
    """Job, file and session events of the tenant. `id:` is a cursor: send the last one as `Last-Event-ID` to resume after it.

    429 when the key or the tenant has too many streams open, 503 when the service has, or while Kafka does not answer.
    """
    cursor = last_event_id or after or None
    if cursor is not None:
        try:
            state.stream.parse(cursor)
        except BadCursor as error:
            raise HTTPException(400, str(error)) from None
    filters = [t.strip() for t in types.split(",") if t.strip()]
    items = state.stream.read(who.tenant_id, cursor, start == "beginning", filters, job_id)
    # The answer begins with the first item: until then Kafka's absence is an answer of its own.
    first = await anext(items)
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(_lines(first, items), media_type="text/event-stream", headers=headers)


async def _lines(first: Item, items: AsyncIterator[Item]) -> AsyncIterator[str]:
    yield _line(first)
    async for item in items:
        yield _line(item)


def _line(item: Item) -> str:
    if item.data is None:
        return ": ping\n\n"
    cursor = f"id: {item.cursor}\n" if item.cursor else ""
    return f"{cursor}event: {item.name}\ndata: {item.data}\n\n"


def install_errors(app: FastAPI) -> None:
    """Answer every error with problem details."""

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        answer = problem(request, error.status_code, HTTPStatus(error.status_code).name.lower(), str(error.detail))
        answer.headers.update(error.headers or {})
        if error.status_code == 405:
            answer.headers["allow"] = ", ".join(routes_of(request.app).methods(request.scope["path"]))
        return answer

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        field, reason = faults_of(error)[0]
        return problem(request, 400, "invalid_request", f"{field}: {reason}", field)

    async def many(request: Request, error: Exception) -> Response:
        assert isinstance(error, TooMany)
        answer = problem(request, error.status, error.code, str(error))
        answer.headers["retry-after"] = str(RETRY_AFTER_S)
        return answer

    handlers: dict[Any, Any] = {HTTPException: http, RequestValidationError: invalid, TooMany: many, **failure_handlers(problem)}
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
