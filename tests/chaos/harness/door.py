"""The client of the load: it repeats each request under the same key until there is an answer, at any of the gateways."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import aiohttp

from shared.web.form_data import FormData
from tests.chaos.harness.evidence import Answer
from tests.chaos.harness.system import System, now, passed

PATIENCE_S = 150.0
AGAIN = frozenset({429, 503})
"""Answers after which a client comes again."""
ANSWER_S = 40.0


class Unanswered(Exception):
    """No answer within `PATIENCE_S`: the request may have had its effect or not."""


class Door:
    """HTTP of gateways and notifiers. Statuses are counted, and server errors kept for the judges."""

    def __init__(self, system: System) -> None:
        headers = {"authorization": f"Bearer {system.key}"}
        timeout = aiohttp.ClientTimeout(total=ANSWER_S, sock_connect=5)
        self.http = aiohttp.ClientSession(headers=headers, timeout=timeout, connector=aiohttp.TCPConnector(limit=0))
        self._next = {service: itertools.cycle(system.urls(service)) for service in ("ingest", "notifier")}
        self.statuses: Counter[int] = Counter()
        self.wrong: list[Answer] = []
        self.torn: set[str] = set()
        """Hashes of uploads of which one request had no answer, or a 503: it may have stored the object for a file that never came."""
        self.closes = float("inf")
        """Unix time after which nothing is waited for."""

    async def __aenter__(self) -> Door:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.http.close()

    def url(self, service: str) -> str:
        """Base URL of one process of the service, in turns."""
        return next(self._next[service])

    async def call(
        self, method: str, path: str, *, expected: tuple[int, ...] = (), notifier: bool = False, key: str = "",
        form: Callable[[], FormData] | None = None, content: str | None = None, **more: Any,
    ) -> tuple[int, Any]:  # fmt: skip
        """Status and decoded body of the first answer that is neither 429 nor 503. Raises `Unanswered`.

        Without a success, and where the status is not `expected`, the answer is kept as a wrong one. `content` is what `form` uploads.
        """
        headers = {"idempotency-key": key} if key else {}
        until = now() + PATIENCE_S
        while now() < min(until, self.closes):
            url = self.url("notifier" if notifier else "ingest") + path
            try:
                async with self.http.request(method, url, headers=headers, data=form() if form else None, **more) as answer:
                    body = await answer.read()
                    self.statuses[answer.status] += 1
                    if answer.status not in AGAIN:
                        return answer.status, self._judged(f"{method} {path}", answer.status, body, expected)
                    pause = float(answer.headers.get("retry-after", 1))
            except (aiohttp.ClientError, TimeoutError, ConnectionError):
                self.statuses[0] += 1
                pause = 0.5
            if content is not None:
                self.torn.add(hashlib.sha256(content.encode()).hexdigest())
            await passed(min(pause, 2.0))
        raise Unanswered(f"{method} {path}")

    def _judged(self, request: str, status: int, body: bytes, expected: tuple[int, ...]) -> Any:
        text = body.decode(errors="replace")
        if status >= 400 and status not in expected:
            self.wrong.append(Answer(request, status, now(), text[:300]))
        try:
            return json.loads(text) if text else None
        except ValueError:
            return text
