"""Receivers of webhooks, one steady and one moody, on one address, and a server of small files for sessions over Kafka."""

from __future__ import annotations

import asyncio
import json
import zlib
from typing import Any

from aiohttp import web

from tests.chaos.harness.evidence import Attempt
from tests.chaos.harness.system import now, passed

ENDPOINTS = ("steady", "moody")
SLOW_S, HANG_S = 3.0, 60.0
RETRY_AFTER_S = 2


class Receiver:
    """Keeps every attempt. `mood` is how the moody endpoint answers: `well`, or a target of the fault `receiver`."""

    def __init__(self) -> None:
        self.mood = "well"
        self.attempts: list[Attempt] = []
        self.documents: dict[str, str] = {}
        self.base = ""
        self._healed = asyncio.Event()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Receiver:
        app = web.Application(client_max_size=1 << 24)
        app.router.add_post("/hook/{endpoint}", self._hook)
        app.router.add_get("/document/{name}", self._document)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, backlog=1000).start()
        self.base = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *error: object) -> None:
        self.set_mood("well")
        assert self._runner is not None
        await self._runner.cleanup()

    def set_mood(self, mood: str) -> None:
        """Answer otherwise from now on; requests that hang are let go."""
        self.mood = mood
        self._healed.set()
        self._healed = asyncio.Event()

    async def _document(self, request: web.Request) -> web.Response:
        text = self.documents.get(request.match_info["name"])
        return web.Response(text=text) if text is not None else web.Response(status=404)

    async def _hook(self, request: web.Request) -> web.Response:
        began = now()
        body = await request.read()
        event: dict[str, Any] = json.loads(body)
        attempt = Attempt(
            request.match_info["endpoint"], request.headers["webhook-id"], event["event_id"], str(event.get("event", event).get("job_id")),
            int(request.headers["stageline-attempt"]), zlib.crc32(body), began,
        )  # fmt: skip
        self.attempts.append(attempt)
        try:
            status = 204 if attempt.endpoint == "steady" else await self._moody()
            attempt.status = status
            attempt.retry_after = RETRY_AFTER_S if status == 429 else None
            return web.Response(status=status, headers={"retry-after": str(RETRY_AFTER_S)} if status == 429 else {})
        finally:
            attempt.ended = now()

    async def _moody(self) -> int:
        mood, healed = self.mood, self._healed
        await passed({"slow": SLOW_S, "hang": HANG_S}.get(mood, 0.0), healed)
        return int(mood) if mood.isdigit() else 204
