"""Clients below the minimum rate are cut off; long requests are not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from shared.web import bounded_http, slow_clients
from shared.web.bounded_http import bounded
from shared.web.connections import ConnectionLimit
from shared.web.slow_clients import BodyTimeout
from tests.eventually import eventually


class Served:
    """An application behind the protocol and the middleware, on loopback."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []

        async def take(request: Request) -> PlainTextResponse:
            try:
                body = await request.body()
            except ClientDisconnect:
                self.outcomes.append("cut")
                raise
            self.outcomes.append("taken")
            return PlainTextResponse(str(len(body)))

        self.app = BodyTimeout(Starlette(routes=[Route("/", take, methods=["GET", "POST"])]))

    async def __aenter__(self) -> Served:
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.server = uvicorn.Server(
            uvicorn.Config(self.app, http=bounded(ConnectionLimit(100, 100)), lifespan="off", log_config=None)
        )
        self.serving = asyncio.create_task(self.server.serve(sockets=[self.sock]))
        await eventually(self._up, 10)
        return self

    async def _up(self) -> bool:
        return self.server.started

    async def __aexit__(self, *error: object) -> None:
        self.server.should_exit = True
        await self.serving

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)


@pytest.fixture
async def served(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(bounded_http, "HEAD_S", 0.3)
    monkeypatch.setattr(slow_clients, "BODY_S", 0.3)
    monkeypatch.setattr(slow_clients, "BYTES_PER_S", 100_000)
    async with Served() as made:
        yield made


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nX: "])
async def test_an_incomplete_head_is_cut_off(served: Served, sent: bytes) -> None:
    reader, writer = await served.connect()
    writer.write(sent)
    assert await asyncio.wait_for(reader.read(), 5) == b"", "the connection is closed, without an answer"
    writer.close()


async def test_an_incomplete_second_head_is_cut_off(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HT")
    assert (await asyncio.wait_for(reader.read(), 5)).count(b"HTTP/1.1 200") == 1
    writer.close()


async def test_a_pausing_body_is_cut_off(served: Served) -> None:
    _, writer = await served.connect()
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")

    async def outcome() -> Any:
        return served.outcomes

    assert await eventually(outcome, 5) == ["cut"]
    writer.close()


async def test_a_long_body_at_a_sufficient_rate_is_accepted(served: Served) -> None:
    reader, writer = await served.connect()
    size = 100_000
    writer.write(f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode())
    for _ in range(10):
        writer.write(b"x" * (size // 10))
        await writer.drain()
        # Ten pauses exceed the timeout together, but none of them alone.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 0.08)
    assert b"HTTP/1.1 200" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5) and served.outcomes == ["taken"]
    writer.close()
