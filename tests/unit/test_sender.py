"""The sender of webhooks: a slow receiver delays no other at its address, and answers are read as HTTP says."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web

from services.notifier.adapters.sender import HttpSender
from services.notifier.core.delivery import Result
from services.notifier.ports import Delivery
from shared.net.address_guard import guarded_session
from shared.net.networks import LOOPBACK
from tests.eventually import eventually

MANY = 40
"""More requests than the 16 connections per address of before."""


@dataclass
class Address:
    """A server whose path `/slow` answers after `release`; other paths answer at once, with `headers`."""

    url: str
    waiting: int
    release: asyncio.Event
    headers: Mapping[str, str]


@asynccontextmanager
async def listening() -> AsyncIterator[Address]:
    address = Address("", 0, asyncio.Event(), {})

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/slow":
            address.waiting += 1
            await address.release.wait()
        return web.Response(status=503 if address.headers else 204, headers=address.headers)

    app = web.Application()
    app.router.add_route("*", "/{path}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield address
    finally:
        address.release.set()
        await runner.cleanup()


def delivery(url: str) -> Delivery:
    return Delivery("e", "event", "t", "x", None, b"{}", None, 1, url, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")


async def all_waiting(address: Address) -> None:
    async def arrived() -> bool:
        return address.waiting == MANY

    await eventually(arrived)


async def test_requests_to_a_slow_receiver_delay_no_other_of_its_address() -> None:
    sender = HttpSender(60.0, LOOPBACK)
    async with listening() as address:
        slow = [asyncio.create_task(sender.send(delivery(f"{address.url}/slow"), 1)) for _ in range(MANY)]
        await all_waiting(address)
        other = await asyncio.wait_for(sender.send(delivery(f"{address.url}/fast"), 1), 10)
        assert (other.status_code, other.error) == (204, None)
        address.release.set()
        assert {(r.status_code, r.error) for r in await asyncio.gather(*slow)} == {(204, None)}
    await sender.close()


async def test_no_client_for_callers_addresses_waits_for_a_connection() -> None:
    session = guarded_session(LOOPBACK, 60, 5)

    async def get(url: str) -> int:
        async with session.get(url) as response:
            return response.status

    async with session, listening() as address:
        slow = [asyncio.create_task(get(f"{address.url}/slow")) for _ in range(MANY)]
        await all_waiting(address)
        address.release.set()
        assert set(await asyncio.gather(*slow)) == {204}


async def test_names_that_are_not_answered_delay_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: set[str] = set()
    answered = threading.Event()
    real = socket.getaddrinfo

    def look_up(host: str, *more: Any, **options: Any) -> Any:
        if host.startswith("slow"):
            asked.add(host)
            answered.wait()
        return real("127.0.0.1", *more, **options)

    async def get(url: str) -> int:
        async with session.get(url) as response:
            return response.status

    async def all_asked() -> bool:
        return len(asked) == MANY

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    session = guarded_session(LOOPBACK, 60, 5)
    async with session, listening() as address:
        port = address.url.rpartition(":")[2]
        slow = [asyncio.create_task(get(f"http://slow{n}.example:{port}/fast")) for n in range(MANY)]
        try:
            await eventually(all_asked)
            assert await asyncio.wait_for(get(f"http://fast.example:{port}/fast"), 10) == 204
        finally:
            answered.set()
        assert set(await asyncio.gather(*slow)) == {204}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (lambda: "120", (120.0, 120.0)),
        (lambda: format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True), (60.0, 100.0)),
        (lambda: "\u00b2", None),
    ],
    ids=["seconds", "date", "neither"],
)
async def test_retry_after_is_read(header: Callable[[], str], expected: tuple[float, float] | None) -> None:
    sender = HttpSender(10.0, LOOPBACK)
    async with listening() as address:
        address.headers = {"retry-after": header()}
        result: Result = await sender.send(delivery(f"{address.url}/busy"), 1)
    await sender.close()
    assert (result.status_code, result.error) == (503, None)
    if expected is None:
        assert result.retry_after_s is None
    else:
        assert result.retry_after_s is not None and expected[0] <= result.retry_after_s <= expected[1]
