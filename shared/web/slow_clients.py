"""The slowest body of a request. Slow clients would exhaust the HTTP server; `bounded_http.py` bounds the head."""

from __future__ import annotations

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_S = 30.0
"""Longest pause within a body, and the time that every body has."""
BYTES_PER_S = 1024
"""Slowest average rate of a body beyond `BODY_S`."""


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
