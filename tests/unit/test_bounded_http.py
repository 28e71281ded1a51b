"""A request's head, and the connections of one address and of all, have limits that one caller cannot pass."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import psutil
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from shared.runtime.http_server import listen
from shared.web.bounded_http import MAX_HEAD_BYTES, bounded
from shared.web.connections import ConnectionLimit
from tests.eventually import eventually

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def _hello(request: Any) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


async def _echo(socket: WebSocket) -> None:
    await socket.accept()
    await socket.receive()


class Served:
    """A server whose connections `limit` counts."""

    def __init__(self, limit: ConnectionLimit) -> None:
        self.limit = limit

    async def __aenter__(self) -> Served:
        sock = listen("127.0.0.1", 0)
        self.port = sock.getsockname()[1]
        app = Starlette(routes=[Route("/", _hello, methods=["GET", "POST"]), WebSocketRoute("/ws", _echo)])
        config = uvicorn.Config(app, http=bounded(self.limit), lifespan="off", log_config=None, timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        self.serving = asyncio.create_task(self.server.serve(sockets=[sock]))

        async def up() -> bool:
            return self.server.started

        await eventually(up, 10)
        return self

    async def __aexit__(self, *error: object) -> None:
        self.server.should_exit = True
        await self.serving

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def answer(self, sent: bytes) -> bytes:
        reader, writer = await self.connect()
        writer.write(sent)
        try:
            return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        except asyncio.IncompleteReadError as cut:
            return cut.partial
        finally:
            writer.close()


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with Served(ConnectionLimit(total=5, per_address=5)) as made:
        yield made


async def test_a_head_of_sixteen_megabytes_is_refused_early(served: Served) -> None:
    before = psutil.Process(os.getpid()).memory_info().rss
    reader, writer = await served.connect()
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Big: ")
    sent = 0
    with pytest.raises(ConnectionError):
        while sent < 16 << 20:
            writer.write(b"a" * 65_536)
            await asyncio.wait_for(writer.drain(), 10)
            sent += 65_536
        await asyncio.wait_for(reader.readexactly(1 << 20), 10)
        raise ConnectionError("the connection was closed in order")
    assert psutil.Process(os.getpid()).memory_info().rss - before < 8 << 20


async def test_the_first_byte_too_many_is_431(served: Served) -> None:
    def head(size: int) -> bytes:
        return b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * size + b"\r\n\r\n"

    assert (await served.answer(head(MAX_HEAD_BYTES - 100))).startswith(b"HTTP/1.1 200")
    assert (await served.answer(head(MAX_HEAD_BYTES))).startswith(b"HTTP/1.1 431")


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(7000)) + b"\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n" + b"X: a\r\n" * 20_000 + b"\r\n",
    ],
    ids=["url", "many headers", "trailers"],
)
async def test_no_part_of_a_head_escapes_the_limit(served: Served, sent: bytes) -> None:
    assert b" 200 " not in (await served.answer(sent)).partition(b"\r\n")[0]


async def test_large_bodies_and_many_requests_on_one_connection_are_no_head(served: Served) -> None:
    size = 3 << 20
    body = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + b"b" * size
    assert (await served.answer(body)).startswith(b"HTTP/1.1 200")
    reader, writer = await served.connect()
    for _ in range(40):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 4000 + b"\r\n\r\n")
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n0"), 10)).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_a_connection_beyond_the_limit_is_told_so_and_closed(served: Served) -> None:
    held = [await served.connect() for _ in range(5)]
    await eventually(lambda: _is(served.limit.open == 5))
    refused = await served.answer(GET)
    assert refused.startswith(b"HTTP/1.1 503") and b"retry-after: 5" in refused
    held[0][1].close()
    await eventually(lambda: _is(served.limit.open < 5))
    assert (await served.answer(GET)).startswith(b"HTTP/1.1 200")
    for _, writer in held[1:]:
        writer.close()
    await eventually(lambda: _is(served.limit.open == 0 and served.limit.refusing == 0))


async def test_a_websocket_keeps_its_place_until_it_is_closed(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(
        b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).startswith(b"HTTP/1.1 101")
    assert served.limit.open == 1
    writer.close()
    await eventually(lambda: _is(served.limit.open == 0))


def test_one_address_has_a_part_of_all_connections() -> None:
    limit = ConnectionLimit(total=3, per_address=2)
    places = [limit.take(("10.0.0.1", n)) for n in range(3)]
    assert places == ["10.0.0.1", "10.0.0.1", None]
    assert limit.take(("2001:db8::1", 1)) == "2001:db8::/64" and limit.take(("10.0.0.2", 1)) is None
    limit.release("10.0.0.1")
    assert limit.take(("10.0.0.2", 1)) == "10.0.0.2"


async def _is(value: bool) -> bool:
    return value
