"""HEAD wherever GET is (RFC 9110 §9.3.2): the headers of GET's answer, and no content."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class _HeadersSent(Exception):
    """Ends the work on an answer whose headers are sent: nobody reads its content."""


class HeadRequests:
    """ASGI middleware: a HEAD request runs the path's GET until its first byte of content. Those of `routes` with a HEAD of their own
    keep it."""

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute]) -> None:
        self.app = app
        self.own = [route for route in routes if isinstance(route, Route) and "HEAD" in (route.methods or ())]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD" or self._has_own_head(scope):
            await self.app(scope, receive, send)
            return
        asked = {**scope, "method": "GET", "asked_method": "HEAD"}

        async def headers_alone(message: Message) -> None:
            if message["type"] == "http.response.start":
                # The middleware around this one reads the route in its own scope.
                scope.update({name: asked[name] for name in ("route", "endpoint", "path_params") if name in asked})
                await send(message)
            elif message["type"] == "http.response.body":
                await send({"type": "http.response.body", "body": b""})
                raise _HeadersSent

        try:
            await self.app(asked, receive, headers_alone)
        except _HeadersSent:
            return

    def _has_own_head(self, scope: Scope) -> bool:
        return any(route.matches(scope)[0] is Match.FULL for route in self.own)


def asked_method(scope: Scope) -> str:
    """The method that the caller sent, which its signature covers: `HEAD` also where the request runs as GET."""
    return str(scope.get("asked_method", scope["method"]))
