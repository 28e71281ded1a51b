"""Timeouts for slow clients, whose open connections would exhaust the HTTP server.

uvicorn bounds only the time between requests. These bound the head of a request (in the protocol) and its body (in ASGI).
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S = 20.0
"""Longest time for the head of a request, from its first byte or from the connection."""
BODY_S = 30.0
"""Longest pause within a body, and the time that every body has."""
BYTES_PER_S = 1024
"""Slowest average rate of a body beyond `BODY_S`."""


class HeadTimeoutProtocol(HttpToolsProtocol):
    """uvicorn's protocol; it closes a connection whose request head is not complete after `HEAD_S`."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the timeout of the first request."""
        super().connection_made(transport)
        self._late = self.loop.call_later(HEAD_S, self._cut)

    def on_message_begin(self) -> None:
        """Start the timeout of this request's head."""
        super().on_message_begin()
        self._stop()
        self._late = self.loop.call_later(HEAD_S, self._cut)

    def on_headers_complete(self) -> None:
        """End the timeout: the head is complete."""
        self._stop()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the timeout: the connection is closed."""
        self._stop()
        super().connection_lost(exc)

    def _stop(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _cut(self) -> None:
        self._late = None
        if not self.transport.is_closing():
            self.transport.close()


class BodyTimeout:
    """ASGI middleware: a body that pauses for `BODY_S`, or is slower than `BYTES_PER_S` after that, counts as a disconnect."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, count, ended = time.monotonic(), 0, False

        async def bounded() -> Message:
            nonlocal count, ended
            if ended:
                return await receive()
            left = BODY_S + count / BYTES_PER_S - (time.monotonic() - started)
            try:
                async with asyncio.timeout(max(0.0, min(left, BODY_S))):
                    message = await receive()
            except TimeoutError:
                ended = True
                return {"type": "http.disconnect"}
            count += len(message.get("body", b""))
            ended = message["type"] != "http.request" or not message.get("more_body")
            return message

        await self.app(scope, bounded, send)
