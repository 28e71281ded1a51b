"""Ends what is open for a caller once the caller's credential is revoked or expires: streams, long waits, downloads, uploads, sockets.

A request is authenticated once, at its start. Whatever may last longer registers its credential here, and the watch looks each
second whether the credential still holds.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.errors import Retry
from shared.web.middleware import ErrorShape

log = logging.getLogger(__name__)
CHECK_S = 1.0
"""Interval of the checks. Together with the way of a revocation over Kafka it stays below five seconds."""
ENDED = "The credential of this request was revoked or has expired."
Check = Callable[[Collection[str]], Awaitable[set[str]]]
"""Ids of credentials of one kind → those that are still valid. Raises `Retry` when the store is unavailable."""


@dataclass(slots=True, eq=False)
class Hold:
    """Something open that ends with its credential. `end` is called each second until the hold is released."""

    credential: str
    end: Callable[[], None]


@dataclass
class CredentialWatch:
    """Open requests and sockets by credential. A credential is named `<kind>:<id>`; `checks` has a function for each kind."""

    checks: Mapping[str, Check]
    _holds: set[Hold] = field(default_factory=set)
    _any: asyncio.Event = field(default_factory=asyncio.Event)

    def hold(self, credential: str, end: Callable[[], None]) -> Hold:
        """Call `end` soon after the credential stops being valid, unless `release` comes first."""
        made = Hold(credential, end)
        self._holds.add(made)
        self._any.set()
        return made

    def release(self, hold: Hold) -> None:
        """Forget a hold: what it stood for is closed."""
        self._holds.discard(hold)

    async def run(self) -> None:
        """Check until cancelled, while anything is open."""
        while True:
            await self._any.wait()
            await asyncio.sleep(CHECK_S)
            try:
                await self.check()
            except Retry as error:
                log.warning(
                    "credentials of open requests not checked, will retry", extra={"code": error.code, "reason": str(error)}
                )
            if not self._holds:
                self._any.clear()

    async def check(self) -> None:
        """End everything whose credential is no longer valid. Raises `Retry`."""
        asked = set(self._holds)
        wanted: dict[str, set[str]] = defaultdict(set)
        for hold in asked:
            kind, _, name = hold.credential.partition(":")
            wanted[kind].add(name)
        valid = {f"{kind}:{name}" for kind, names in wanted.items() for name in await self.checks[kind](names)}
        for hold in asked & self._holds:
            if hold.credential not in valid:
                hold.end()


class RevocableRequests:
    """ASGI middleware: a request whose credential ends is answered 401, or its connection is closed when the answer has begun."""

    def __init__(self, app: ASGIApp, watch: CredentialWatch, shape: ErrorShape) -> None:
        self.app = app
        self.watch = watch
        self.shape = shape

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        open_request = _OpenRequest(self.watch)
        scope.setdefault("state", {})["open_request"] = open_request
        start: Message | None = None

        async def watched(message: Message) -> None:
            nonlocal start
            start = start or message
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except asyncio.CancelledError:
            if not open_request.ended or asyncio.current_task().uncancel() > 0:  # type: ignore[union-attr]
                raise
            if start is None:
                await self.shape(Request(scope), 401, "unauthorized", ENDED)(scope, receive, send)
            elif Headers(raw=start["headers"]).get("content-type", "").startswith("text/event-stream"):
                await send({"type": "http.response.body"})
            # Otherwise the server closes the connection, so that nobody takes a part of the content for the whole.
        finally:
            open_request.release()


class _OpenRequest:
    """The holds of one request. Ending it cancels its task."""

    def __init__(self, watch: CredentialWatch) -> None:
        self.watch = watch
        self.task: asyncio.Task[Any] | None = asyncio.current_task()
        self.holds: list[Hold] = []
        self.ended = False

    def hold(self, credential: str) -> None:
        self.holds.append(self.watch.hold(credential, self._end))

    def release(self) -> None:
        for hold in self.holds:
            self.watch.release(hold)

    def _end(self) -> None:
        if not self.ended and self.task is not None:
            self.ended = True
            self.task.cancel()


def hold_request(request: Request, credential: str) -> None:
    """End the request once its credential ends. To be called at each authentication; an empty credential has no end."""
    if credential:
        request.state.open_request.hold(credential)
