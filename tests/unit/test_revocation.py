"""What is open for a credential ends when the credential does: an answer that has begun, one that waits, a body that is read."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from shared.errors import Retry
from shared.web import revocation
from shared.web.revocation import CredentialWatch, RevocableRequests, hold_request
from tests.eventually import eventually


class Keys:
    """Valid keys."""

    def __init__(self) -> None:
        self.valid = {"a", "b"}
        self.asked: list[set[str]] = []
        self.down = False

    async def check(self, names: Collection[str]) -> set[str]:
        self.asked.append(set(names))
        if self.down:
            raise Retry("store_unavailable", "down")
        return self.valid & set(names)


def shape(request: Request, status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"code": code}, status)


async def endless() -> Any:
    while True:
        yield b"x"
        await asyncio.Event().wait()


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """By path: an endless stream, an endless wait, an endless body, or an answer at once."""
    request = Request(scope, receive)
    hold_request(request, f"key:{request.headers['key']}")
    path = request.url.path
    if path == "/wait":
        await asyncio.Event().wait()
    if path == "/body":
        await request.body()
    kind = "text/event-stream" if path == "/events" else "application/octet-stream"
    response = Response("done") if path in ("/short", "/body") else StreamingResponse(endless(), media_type=kind)
    await response(scope, receive, send)


class Call:
    """One request to the application, in a task of its own as under uvicorn."""

    def __init__(self, app: RevocableRequests, path: str, key: str = "a") -> None:
        self.sent: list[Message] = []
        scope: Scope = {
            "type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [(b"key", key.encode())],
            "asgi": {"spec_version": "2.4"}, "server": ("t", 1), "scheme": "http",
        }  # fmt: skip
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    async def _receive(self) -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def statuses(self) -> list[int]:
        return [m["status"] for m in self.sent if m["type"] == "http.response.start"]


async def after_start(call: Call) -> None:
    async def begun() -> bool:
        return bool(call.sent) or call.task.done()

    await eventually(begun, 5)


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.fixture
def watch(keys: Keys) -> CredentialWatch:
    return CredentialWatch({"key": keys.check})


async def test_open_answers_end_with_their_key(keys: Keys, watch: CredentialWatch) -> None:
    app = RevocableRequests(answer, watch, shape)
    events, download, other = Call(app, "/events"), Call(app, "/download"), Call(app, "/events", "b")
    for call in (events, download, other):
        await after_start(call)
    await watch.check()
    assert not any(call.task.done() for call in (events, download, other))
    keys.valid.discard("a")
    await watch.check()
    await asyncio.wait({events.task, download.task}, timeout=5)
    assert events.sent[-1] == {"type": "http.response.body"} and events.task.done(), "a stream of events ends in order"
    assert download.task.done() and download.sent[-1].get("more_body"), (
        "a download is cut, so that its part is not taken for the whole"
    )
    assert not other.task.done(), "another key's stream goes on"
    other.task.cancel()
    await asyncio.wait({other.task})
    assert other.task.cancelled(), "a shutdown is no revocation"
    assert not watch._holds, "nothing is left behind"


@pytest.mark.parametrize("path", ["/wait", "/body"])
async def test_waits_and_uploads_are_answered_401(path: str, keys: Keys, watch: CredentialWatch) -> None:
    call = Call(RevocableRequests(answer, watch, shape), path)

    async def held() -> bool:
        return bool(watch._holds)

    await eventually(held, 5)
    keys.valid.clear()
    await watch.check()
    await asyncio.wait({call.task}, timeout=5)
    assert call.statuses == [401] and not watch._holds


async def test_the_watch_asks_only_while_something_is_open(
    keys: Keys, watch: CredentialWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocation, "CHECK_S", 0.01)
    running = asyncio.create_task(watch.run())
    await asyncio.wait({running}, timeout=0.05)
    assert keys.asked == []
    app = RevocableRequests(answer, watch, shape)
    short = Call(app, "/short")
    await short.task
    assert short.statuses == [200]
    stream = Call(app, "/events")
    await after_start(stream)
    keys.down = True

    async def asked() -> bool:
        return len(keys.asked) > 3

    await eventually(asked, 5)
    assert not stream.task.done(), "a store that is down ends nothing"
    keys.down = False
    keys.valid.clear()
    await asyncio.wait({stream.task}, timeout=5)
    assert stream.task.done() and not running.done()
    running.cancel()
