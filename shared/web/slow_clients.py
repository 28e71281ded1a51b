"""Clients that are too slow are cut off: each open connection costs, and a few of them must not cost the door.

uvicorn bounds only the time between requests; what is here bounds the head of a request (in the protocol) and its body (ASGI).
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S = 20.0
"""From the connection, or the end of the answer before, to the end of a request's head."""
BODY_S = 30.0
"""What a body may take however small it is, and how long it may pause."""
BYTES_PER_S = 1024
"""The slowest that a body may come on the whole."""


class HeadTimeoutProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which closes a connection whose request's head does not end in `HEAD_S`."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A client is there: its request is due."""
        super().connection_made(transport)
        self._late = self.loop.call_later(HEAD_S, self._cut)

    def on_message_begin(self) -> None:
        """A request begins: its head is due."""
        super().on_message_begin()
        self._stop()
        self._late = self.loop.call_later(HEAD_S, self._cut)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._stop()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is due any more."""
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
    """ASGI middleware: a body that pauses for `BODY_S`, or comes slower than `BYTES_PER_S` after that, is taken for a client that went."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, count, ended = time.monotonic(), 0, False

        async def paced() -> Message:
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

        await self.app(scope, paced, send)
