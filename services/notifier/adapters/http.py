"""HTTP routes of the notifier: endpoints, their delivery logs, and the event stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response, StreamingResponse

from contracts.event_names import fault_in
from contracts.identity import plain_id
from services.notifier.adapters.stream import BadCursor, EventStream, Item
from services.notifier.ports import Sender, WebhookProbe
from services.notifier.settings import NotifierSettings
from shared.database.store import Store
from shared.processing.processor import BatchProcessor
from shared.web.api_keys import NEEDS_KEY, Keyring, Principal
from shared.web.concurrency import RETRY_AFTER_S, HeldRequests, TooMany, key_of
from shared.web.invalid_requests import faults_of
from shared.web.middleware import failure_handlers
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
    sender: Sender
    probe: WebhookProbe


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


@router.get("/events/stream", tags=["Events"], summary="Server-sent events", response_class=StreamingResponse)
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
    Each event has its name as `type`. 400 with the list of names when one of `types` matches no event.

    429 when the key or the tenant has too many streams open, 503 when the service has, or while Kafka does not answer.
    """
    cursor = last_event_id or after or None
    if cursor is not None:
        try:
            state.stream.parse(cursor)
        except BadCursor as error:
            raise HTTPException(400, str(error)) from None
    filters = [t.strip() for t in types.split(",") if t.strip()]
    if (fault := fault_in(filters, streamed=True)) is not None:
        raise HTTPException(400, f"types: {fault}")
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
