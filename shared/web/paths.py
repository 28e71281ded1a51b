"""Paths of requests: the methods that each has, and one spelling for those that clients write in several ways."""

from __future__ import annotations

import re
from typing import cast
from urllib.parse import quote, unquote

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from contracts.identity import plain_id

_SLASHES = re.compile(rb"/{2,}")
CHOSEN = frozenset({"tenant_id", "connection_id"})
"""Parameters whose ids administrators choose. Their case counts."""


class RouteTable:
    """The routes of an application, also those of the routers that it includes."""

    def __init__(self, app: FastAPI) -> None:
        found = [route for route in iter_route_contexts(app.routes) if hasattr(route, "path_regex")]
        self._routes: list[tuple[re.Pattern[str], frozenset[str]]] = [
            (route.path_regex, frozenset(route.methods or ())) for route in found
        ]
        self.mounts = tuple(str(route.path) for route in found if isinstance(route.original_route, Mount))
        """Paths under which other applications answer."""

    def methods(self, path: str) -> list[str]:
        """The methods of a path, in order; empty for an unknown path."""
        return sorted({method for pattern, methods in self._routes if pattern.match(path) for method in methods})

    def with_plain_ids(self, method: str, path: str) -> str:
        """The path with each UUID that stands for an id as it is kept."""
        found = [(pattern.match(path), methods) for pattern, methods in self._routes]
        fitting = [match for match, methods in found if match and method in methods] or [match for match, _ in found if match]
        if not fitting:
            return path
        for name, value in fitting[0].groupdict().items():
            if name.endswith("_id") and name not in CHOSEN:
                start, end = fitting[0].span(name)
                path = path[:start] + plain_id(value) + path[end:]
        return path


def routes_of(app: FastAPI) -> RouteTable:
    """The application's table, which is made once: at its first use every route must be there."""
    state = app.state
    if not hasattr(state, "route_table"):
        state.route_table = RouteTable(app)
    return cast(RouteTable, state.route_table)


class PlainPaths:
    """ASGI middleware: `/x/` and `//x` are `/x`, and a UUID in capital letters is the same id. It answers nothing itself.

    A redirect instead would lose the body of a POST with many clients. `raw_path` stays as the client wrote and signed it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["path"] = plain_path(scope, routes_of(scope["app"]))
        await self.app(scope, receive, send)


def plain_path(scope: Scope, routes: RouteTable) -> str:
    """The path of a request as the routes have it. A slash that the client wrote as `%2F` is part of a name and stays."""
    path: str = scope["path"]
    if any(path == mount or path.startswith(f"{mount}/") for mount in routes.mounts):
        return path if path not in routes.mounts else f"{path}/"
    written: bytes = scope.get("raw_path") or quote(path).encode()
    plain = _SLASHES.sub(b"/", written).rstrip(b"/") or b"/"
    if plain != written:
        path = unquote(plain.decode("latin-1"))
    # Most paths hold no capital letters, and need no look at the routes.
    return path if path == path.lower() else routes.with_plain_ids(scope["method"], path)
