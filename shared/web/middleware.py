"""Middleware of every HTTP API: a server span per request, and error responses without a stack trace."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any

from opentelemetry.trace import SpanKind
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contracts.public_text import public_text
from shared.database.faults import ConstraintViolated
from shared.errors import DISK_FULL, DeadLetter, Outcome, Stop
from shared.telemetry.trace_context import as_parent, clean_traceparent, new_traceparent, parse_traceparent, traceparent_of
from shared.telemetry.tracing import Telemetry

log = logging.getLogger(__name__)
_QUIET = ("/health/",)
_TOKENS = re.compile(r"(?<=/v1/tasks/)[^/]+|(?<=/v1/links/)[^/]+|(?<=/file/shared/)[^/]+")
"""Parts of paths that are a credential: the address of a task, of a file, and a shared link."""


def shown_path(path: str) -> str:
    """A path for logs and traces, without the tokens in it: who reads these must not get at documents."""
    return _TOKENS.sub("TOKEN", path)


class TracingMiddleware:
    """ASGI middleware: a server span per request. `scope["state"]["trace"]` is the `traceparent` of everything the request causes."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self.app = app
        self.telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(_QUIET):
            await self.app(scope, receive, send)
            return
        # No resource has U+0000 in its name, and PostgreSQL rejects a query for one.
        scope["path"] = scope["path"].replace("\x00", "\ufffd")
        incoming = next((v.decode("latin-1") for k, v in scope["headers"] if k == b"traceparent"), None)
        state: dict[str, Any] = scope.setdefault("state", {})
        if not self.telemetry.enabled:
            state["trace"] = clean_traceparent(incoming) or new_traceparent()
            await self.app(scope, receive, send)
            return
        attributes = {
            "http.request.method": scope["method"],
            "url.path": shown_path(scope["path"]),
            "url.scheme": scope["scheme"],
        }
        span = self.telemetry.tracer.start_span(
            f"{scope['method']} {shown_path(scope['path'])}",
            context=as_parent(parse_traceparent(incoming)),
            kind=SpanKind.SERVER,
            attributes=attributes,
        )
        state["trace"] = traceparent_of(span, None)

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", None)
                if route:
                    span.update_name(f"{scope['method']} {route}")
                    span.set_attribute("http.route", route)
                span.set_attribute("http.response.status_code", message["status"])
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            span.end()


def trace_of(request: Request) -> str | None:
    """The `traceparent` of everything this request causes."""
    trace: str | None = getattr(request.state, "trace", None)
    return trace


ErrorShape = Callable[[Request, int, str, str], JSONResponse]
"""(request, status, code, message) → an error response in the dialect of the request's path."""


class CloseOnShutdown:
    """ASGI middleware: a request that a shutdown cancels is answered 503 with Retry-After, instead of the server's bare 500.

    An answer whose rest cannot be had, of a damaged file for example, is broken off: the connection ends before its body does.
    """

    def __init__(self, app: ASGIApp, shape: ErrorShape) -> None:
        self.app = app
        self.shape = shape

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answering = False

        async def watched(message: Message) -> None:
            nonlocal answering
            answering = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except asyncio.CancelledError:
            if answering or scope["type"] != "http":
                raise
            text = "The service is being stopped; what was asked may have been taken. Repeating the request is safe with the same Idempotency-Key."
            answer = self.shape(Request(scope), 503, "stopping", text)
            answer.headers["retry-after"] = "5"
            await answer(scope, receive, send)
        except RuntimeError as error:
            # Starlette's words for an error after the first bytes. The server closes the connection, because the body has no end.
            if not answering or not isinstance(error.__cause__, Outcome):
                raise
            facts = {"code": error.__cause__.code, "reason": str(error.__cause__), "path": scope["path"]}
            log.error("an answer was broken off", extra=facts)


AWAY = "The service cannot answer now; nothing is lost. Try again."
FULL = "The server's disk is full; nothing is lost. Try again when its operator has made room."


def failure_handlers(shape: ErrorShape) -> dict[Any, Any]:
    """Exception handlers of an app: an unavailable dependency is 503 with Retry-After, a value that cannot be stored 400, a bug 500."""

    async def outcome(request: Request, error: Exception) -> Response:
        assert isinstance(error, Outcome)
        if isinstance(error, DeadLetter):
            return shape(request, 400, error.code, public_text(str(error)))
        # A refused row may be a lost race, which the next try wins. Any other reason to stop is a bug.
        if isinstance(error, Stop) and not isinstance(error, ConstraintViolated):
            return await bug(request, error)
        answer = shape(request, 503, error.code, FULL if error.code == DISK_FULL else AWAY)
        answer.headers["retry-after"] = "5"
        log.warning(
            "request not answered", extra={"code": error.code, "reason": str(error), "path": shown_path(request.url.path)}
        )
        return answer

    async def bug(request: Request, error: Exception) -> Response:
        log.error("request failed", exc_info=error, extra={"path": shown_path(request.url.path)})
        return shape(request, 500, "internal", "The service failed on this request. The operator's log says why.")

    return {Outcome: outcome, Exception: bug}
