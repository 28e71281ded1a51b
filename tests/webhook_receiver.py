"""A webhook receiver for tests. It verifies signatures with the public library; the test sets its answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web
from standardwebhooks.webhooks import Webhook


class Receiver:
    """Listens on loopback; `answer(event_id, attempt)` gives the status of each answer."""

    def __init__(self, answer: Callable[[str, int], int] = lambda event_id, attempt: 204) -> None:
        self.answer = answer
        self.secret = ""
        self.received: list[tuple[str, int, dict[str, Any]]] = []
        self.headers: list[dict[str, str]] = []
        self.bad_signatures = 0
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Receiver:
        app = web.Application()
        app.router.add_post("/hook", self._hook)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/hook"
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _hook(self, request: web.Request) -> web.Response:
        body = await request.read()
        try:
            event = Webhook(self.secret).verify(body, {k.lower(): v for k, v in request.headers.items()})
        except Exception:
            self.bad_signatures += 1
            return web.Response(status=400)
        attempt = int(request.headers["stageline-attempt"])
        event_id = request.headers["webhook-id"]
        self.received.append((event_id, attempt, event))
        self.headers.append({k.lower(): v for k, v in request.headers.items()})
        return web.Response(status=self.answer(event_id, attempt))
