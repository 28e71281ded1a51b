"""None of the five clients that connect to a caller's address reaches an internal one, in any notation of the address."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from aiohttp import web

from contracts import StageTask
from services.ingest.adapters.remote_files import RemoteFailed, RemoteFiles
from services.notifier.adapters.sender import HttpSender
from services.stage_worker.adapters.downloads import GuardedDownloads
from services.stage_worker.adapters.tenant_secrets import TenantSecrets
from services.stage_worker.adapters.webhook_caller import WebhookCaller
from services.stage_worker.core.document_fault import DocumentFault
from shared import clock
from shared.net.address_guard import is_public
from shared.net.networks import LOOPBACK
from shared.objects.object_store import open_objects
from stageline_kit import Outcome, Task
from tests.unit.test_address_guard import INTERNAL

PUBLIC = "93.184.216.34"
TARGETS = ("10.0.0.1", "169.254.169.254", "192.168.1.1", "172.16.5.4", "100.64.0.1", "0.0.0.0")


def numbers(address: str) -> Iterator[str]:
    """Ways of writing an IPv4 address in numbers, as `inet_aton` reads them."""
    a, b, c, d = (int(p) for p in address.split("."))
    number = int(ipaddress.IPv4Address(address))
    hexa = f"{number:08x}"
    yield from (address, f"{address}.", str(number), f"0x{hexa}", f"0X{hexa.upper()}", f"0{number:o}")
    yield from (f"0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}", f"0{a:o}.0{b:o}.0{c:o}.0{d:o}", f"{a}.{b}.{c * 256 + d}")
    yield from (f"{a}.{b * 65536 + c * 256 + d}", f"0x{a:x}.{b}.{c}.{d}", f"{a}%2e{b}%2e{c}%2e{d}")


def dresses(address: str) -> Iterator[str]:
    """Ways of writing an IPv4 address as the host of a URL."""
    yield from numbers(address)
    hexa = f"{int(ipaddress.IPv4Address(address)):08x}"
    high, low = hexa[:4], hexa[4:]
    yield from (f"[::ffff:{address}]", f"[::ffff:{high}:{low}]", f"[0:0:0:0:0:FFFF:{high}:{low}]", f"[::{address}]")
    yield from (f"[64:ff9b::{address}]", f"[64:FF9B::{high}:{low}]", f"[2002:{high}:{low}::1]", f"[::ffff:0:{high}:{low}]")
    wide = address.translate({ord(str(n)): chr(0xFF10 + n) for n in range(10)})
    yield from (wide, address.replace(".", "\u3002"), address.replace(".", "\uff0e"))
    yield from (f"example.com@{address}", f"{address}#@example.com", f"{address}?@example.com")
    yield from (f"{address}\\@example.com", f"{address}/@example.com")


LITERAL = [f"https://{host}/secret" for target in (*TARGETS, "127.0.0.1") for host in dresses(target)]
NAMED = [f"https://n{n}-{kind}.example/x" for n in range(len(INTERNAL)) for kind in ("all", "some", "turn")]
ADDRESSES = [a.partition("%")[0] for a in INTERNAL]
REDIRECTS = [f"{scheme}://{host}/x" for target in TARGETS for host in dresses(target) for scheme in ("https",)]


class Wire:
    """Resolves names as the test defines, records each address dialled, and connects to none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.dialled: list[str] = []
        self.turns: dict[str, int] = {}
        self.real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self.resolve)
        loop = asyncio.get_running_loop()
        self.connect = loop.sock_connect
        monkeypatch.setattr(loop, "sock_connect", self.dial)

    def resolve(self, host: Any, *more: Any, **named: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if not name or not name.endswith(".example"):
            # The system resolves numeric notations. No name is looked up.
            return self.real(host, more[0] if more else 443, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        number, kind = name.split(".")[0][1:].split("-")
        turn = self.turns[name] = self.turns.get(name, 0) + 1
        internal = ADDRESSES[int(number)]
        listed = {"all": [internal], "some": [PUBLIC, internal], "turn": [PUBLIC if turn == 1 else internal]}[kind]
        port = more[0] if more else 443
        return [found for address in listed for found in self.real(address, port, type=socket.SOCK_STREAM)]

    async def dial(self, sock: Any, address: Any) -> None:
        self.dialled.append(address[0])
        if address[0] == "127.0.0.1" and address[1] == getattr(self, "port", None):
            await self.connect(sock, address)
            return
        raise ConnectionRefusedError("nothing leaves this machine")


def task(url: str) -> Task:
    message = StageTask(
        task_id="t",
        job_id="j",
        tenant_id="t",
        step="s",
        action="http.webhook",
        attempt=1,
        lease="l",
        issued_at=clock.now(),
        config={"url": url},
    )
    return Task(message)


@pytest.fixture
async def clients(tmp_path: Any) -> AsyncIterator[Callable[..., dict[str, Callable[[str], Awaitable[Any]]]]]:
    objects = open_objects(tmp_path.as_uri())
    opened: list[Any] = []

    async def nothing() -> AsyncIterator[bytes]:
        yield b"x"

    def make(trusted: Any = ()) -> dict[str, Callable[[str], Awaitable[Any]]]:
        remote, sender = RemoteFiles(trusted), HttpSender(5, trusted)
        downloads, webhooks = GuardedDownloads(objects, 1000, trusted), WebhookCaller(trusted, TenantSecrets(None))
        opened.extend((remote, sender, downloads, webhooks))
        return {
            "worker fetch": lambda url: downloads.fetch_file("t", "job-1", url), "door fetch": lambda url: remote.fetch(objects.of("t"), url, 1000),
            "door store": lambda url: remote.store("PUT", url, 1, nothing(), "text/plain"), "webhook": lambda url: sender.ask(url, b"{}"),
            "webhook step": lambda url: webhooks.call_url(task(url)),
        }  # fmt: skip

    yield make
    for client in opened:
        await client.close()


async def tried(call: Callable[[str], Awaitable[Any]], url: str) -> None:
    try:
        await call(url)
    except (DocumentFault, Outcome, RemoteFailed):
        return


def test_the_corpus_is_large() -> None:
    assert len({*LITERAL, *NAMED, *REDIRECTS}) >= 300, len({*LITERAL, *NAMED, *REDIRECTS})


@pytest.mark.parametrize("name", ["worker fetch", "door fetch", "door store", "webhook", "webhook step"])
async def test_no_internal_address_is_dialled(clients: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wire, call = Wire(monkeypatch), clients()[name]
    for url in (*LITERAL, *NAMED):
        # Twice, because a name may resolve to another address after it was checked.
        for _ in range(2):
            await tried(call, url)
        assert all(is_public(address) for address in wire.dialled), (url, wire.dialled[-1])
    assert PUBLIC in wire.dialled, "the guard lets the open internet pass, or this test shows nothing"


@pytest.mark.parametrize("name", ["worker fetch", "door fetch", "webhook", "webhook step"])
async def test_no_redirect_leads_inside(clients: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    places = iter([])

    async def away(request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"location": next(places)})  # type: ignore[call-overload]

    app = web.Application()
    app.router.add_route("*", "/", away)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    wire, call = Wire(monkeypatch), clients(LOOPBACK)[name]
    wire.port = runner.addresses[0][1]  # type: ignore[attr-defined]
    try:
        for url in REDIRECTS:
            if not url.isascii():
                continue
            places = iter([url])
            await tried(call, f"http://127.0.0.1:{wire.port}/")  # type: ignore[attr-defined]
            assert all(is_public(a) or a == "127.0.0.1" for a in wire.dialled), (url, wire.dialled[-1])
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("name", ["worker fetch", "door fetch", "door store", "webhook", "webhook step"])
async def test_no_answer_names_what_a_name_resolved_to(clients: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Wire(monkeypatch)

    async def refuse(sock: Any, address: Any) -> None:
        raise ConnectionRefusedError(111, f"Connect call failed {address}")  # as asyncio says it

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", refuse)
    call = clients()[name]
    for url in NAMED:
        address = ADDRESSES[int(url.partition("-")[0].rpartition("n")[2])]
        said = await answered(call, url)
        assert said and PUBLIC not in said and (len(address) < 4 or address not in said), (url, said)


async def answered(call: Callable[[str], Awaitable[Any]], url: str) -> str:
    """What the caller reads of a request that failed."""
    try:
        return str(await call(url))
    except (DocumentFault, Outcome, RemoteFailed) as error:
        return f"{error} {vars(error)}"
