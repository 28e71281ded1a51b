"""Sign-ins: limits come before the hash, nobody is locked out by name, and unknown names cost what wrong passwords cost."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.ingest.adapters import passwords
from services.ingest.core.signin_delay import FREE_FAILURES, MAX_DELAY_S, delay_after
from shared import clock
from tests.eventually import eventually
from tests.gateway_app import InProcess, gateway_app

RIGHT, WRONG = "correct horse battery", "wrong horse battery"


class CountingHasher:
    """Stands for Argon2id: counts the hashes that are computed, and waits while `slow` is not set."""

    def __init__(self) -> None:
        self.verified = 0
        self.slow = threading.Event()
        self.slow.set()
        self.real = passwords.HASHER

    def hash(self, password: str) -> str:
        return self.real.hash(password)

    def verify(self, password_hash: str, password: str) -> bool:
        self.verified += 1
        self.slow.wait(20)
        return self.real.verify(password_hash, password)


@pytest.fixture
def hasher(monkeypatch: pytest.MonkeyPatch) -> CountingHasher:
    made = CountingHasher()
    monkeypatch.setattr(passwords, "HASHER", made)
    return made


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Advances the clock."""
    at = clock.unix()
    monkeypatch.setattr(clock, "unix", lambda: at)

    def advance(seconds: float) -> None:
        nonlocal at
        at += seconds

    return advance


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[InProcess]:
    async with gateway_app(tmp_path, signins_per_minute=1000) as made:
        await made.user("ann", RIGHT)
        yield made


async def sign_in(http: httpx.AsyncClient, name: str, password: str) -> httpx.Response:
    return await http.post("/token", data={"grant_type": "password", "username": name, "password": password})


async def audit(gateway: InProcess) -> list[dict[str, Any]]:
    return [json.loads(row.body) for row in await gateway.rows("SELECT body FROM audit ORDER BY id")]


def test_delays_grow_to_a_quarter_of_an_hour() -> None:
    delays = [delay_after(n) for n in range(1, FREE_FAILURES + 30)]
    assert delays[:FREE_FAILURES] == [0.0] * FREE_FAILURES and delays[FREE_FAILURES : FREE_FAILURES + 4] == [1.0, 2.0, 4.0, 8.0]
    assert delays == sorted(delays) and delays[-1] == MAX_DELAY_S and delay_after(10_000) == MAX_DELAY_S


async def test_guessing_slows_the_guesser_and_not_the_user(
    gateway: InProcess, hasher: CountingHasher, now: Callable[[float], None]
) -> None:
    async with gateway.http("198.51.100.66") as attacker, gateway.http("203.0.113.5") as ann:
        seen = [(await sign_in(attacker, "ann", WRONG)).status_code for _ in range(20)]
        assert seen[: FREE_FAILURES + 1] == [400] * (FREE_FAILURES + 1) and set(seen[FREE_FAILURES + 1 :]) == {429}
        assert hasher.verified == FREE_FAILURES + 1, "a refused attempt costs no hash"
        refused = await sign_in(attacker, "ann", RIGHT)
        assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1, "also with the right password"
        assert (await sign_in(ann, "ann", RIGHT)).status_code == 200, "the user is not locked out"
        now(2)
        assert (await sign_in(attacker, "ann", WRONG)).status_code == 400
        now(1)
        assert (await sign_in(attacker, "ann", WRONG)).status_code == 429, "the delay has grown"


async def test_a_success_forgets_the_failures(gateway: InProcess, hasher: CountingHasher) -> None:
    async with gateway.http() as http:
        for _ in range(3):
            for _ in range(FREE_FAILURES):
                assert (await sign_in(http, "ann", WRONG)).status_code == 400
            assert (await sign_in(http, "ann", RIGHT)).status_code == 200


async def test_attempts_at_once_count_too(gateway: InProcess, hasher: CountingHasher) -> None:
    async with gateway.http() as http:
        answers = await asyncio.gather(*(sign_in(http, "ann", WRONG) for _ in range(30)))
    seen = {a.status_code for a in answers}
    assert hasher.verified <= FREE_FAILURES + 1 and seen <= {400, 429, 503}


async def test_an_address_has_a_limit_and_a_known_one_its_own(
    tmp_path: Path, hasher: CountingHasher, now: Callable[[float], None]
) -> None:
    async with gateway_app(tmp_path, signins_per_minute=5, signins_per_minute_total=8) as gateway:
        await gateway.user("ann", RIGHT)
        async with gateway.http() as http, gateway.http("198.51.100.1") as second, gateway.http("198.51.100.2") as third:
            assert (await sign_in(http, "ann", RIGHT)).status_code == 200
            seen = [(await sign_in(http, f"nobody-{n}", WRONG)).status_code for n in range(5)]
            assert seen == [400] * 4 + [429], "five of one address in a minute"
            assert (await sign_in(http, "ann", RIGHT)).status_code == 200, "the user's own address has its own number"
            seen = [(await sign_in(second, f"nobody-{n}", WRONG)).status_code for n in range(4)]
            assert seen == [400] * 3 + [429], "eight of all addresses in a minute"
            assert (await sign_in(third, "ann", RIGHT)).status_code == 429
            assert (await sign_in(http, "ann", RIGHT)).status_code == 200, "known addresses do not share the total"
            now(60)
            assert (await sign_in(third, "ann", RIGHT)).status_code == 200


async def test_an_ipv6_network_counts_as_one_address(
    tmp_path: Path, hasher: CountingHasher, now: Callable[[float], None]
) -> None:
    async with gateway_app(tmp_path, signins_per_minute=2) as gateway:
        seen = []
        for n in range(4):
            async with gateway.http(f"2001:db8:1:2::{n}") as http:
                seen.append((await sign_in(http, f"x{n}", WRONG)).status_code)
        assert seen == [400, 400, 429, 429]


async def test_the_queue_is_bounded_and_keeps_places_for_known_addresses(tmp_path: Path, hasher: CountingHasher) -> None:
    async with gateway_app(tmp_path, signin_queue=6) as gateway:
        await gateway.user("ann", RIGHT)
        async with gateway.http() as ann:
            assert (await sign_in(ann, "ann", RIGHT)).status_code == 200
            hasher.slow.clear()
            strangers = [gateway.http(f"198.51.100.{n}") for n in range(10)]
            waiting = [asyncio.create_task(sign_in(http, "nobody", WRONG)) for http in strangers]

            async def refused() -> bool:
                return sum(task.done() for task in waiting) == 7

            await eventually(refused, 20)
            answers = [task.result() for task in waiting if task.done()]
            assert {a.status_code for a in answers} == {503} and all("retry-after" in a.headers for a in answers)
            known = asyncio.create_task(sign_in(ann, "ann", RIGHT))

            async def has_a_place() -> bool:
                return gateway.gateway.passwords._places.total() == 4

            await eventually(has_a_place, 20)
            hasher.slow.set()
            assert (await known).status_code == 200
            assert sorted([(await task).status_code for task in waiting]) == [400] * 3 + [503] * 7
            for http in strangers:
                await http.aclose()


async def test_unknown_and_disabled_users_cost_a_hash_and_read_alike(gateway: InProcess, hasher: CountingHasher) -> None:
    await gateway.user("gone", RIGHT)
    await gateway.store.transact(
        lambda c: c.exec_driver_sql("UPDATE app_user SET disabled = 1 WHERE user_name = 'gone'") and None
    )
    async with gateway.http() as http:
        answers = [await sign_in(http, *pair) for pair in (("ann", WRONG), ("nobody", WRONG), ("gone", RIGHT))]
    assert hasher.verified == 3
    assert {(a.status_code, a.content) for a in answers} == {(400, answers[0].content)}


async def test_the_audit_has_good_and_bad_sign_ins(
    gateway: InProcess, hasher: CountingHasher, now: Callable[[float], None]
) -> None:
    async with gateway.http() as http:
        for name in ("ann", "ann", "my password by mistake"):
            await sign_in(http, name, WRONG)
        await sign_in(http, "ann", RIGHT)
    now(60)
    await gateway.gateway.audit_trail.flush(clock.unix())
    lines = [a for a in await audit(gateway) if a["verb"] == "sign_in"]
    assert [(a["subject"], a["ok"], a["code"], a.get("count", 1)) for a in lines] == [
        ("ann", False, "invalid_grant", 1), ("a name of no user", False, "invalid_grant", 1), ("ann", True, None, 1),
        ("ann", False, "invalid_grant", 1),
    ]  # fmt: skip
    assert "my password" not in str(lines), "a name may be a password in the wrong field"
    assert {a["address"] for a in lines} == {"203.0.113.7"}
    tenants = [r.tenant_id for r in await gateway.rows("SELECT tenant_id FROM audit WHERE body LIKE '%sign_in%' ORDER BY id")]
    assert tenants == ["acme", "default", "acme", "acme"]


async def test_a_proxys_header_counts_only_from_a_trusted_proxy() -> None:
    from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

    from shared.runtime.http_server import forwarding_proxies
    from shared.settings import Settings
    from shared.web.client_address import client_address

    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(client_address(scope))

    headers = [(b"x-forwarded-for", b"192.0.2.1, 198.51.100.7")]
    for trusted in ((), ("127.0.0.1/32",), ("127.0.0.0/8", "198.51.100.7/32")):
        proxies = forwarding_proxies(Settings(trusted_proxies=trusted).trusted_proxies)
        middleware = ProxyHeadersMiddleware(app, proxies)  # type: ignore[arg-type]
        await middleware({"type": "http", "client": ("127.0.0.1", 1), "headers": headers}, None, None)  # type: ignore[arg-type,typeddict-item]
    assert seen == ["127.0.0.1", "198.51.100.7", "192.0.2.1"]
    assert client_address({"client": ("::ffff:192.0.2.9", 1)}) == "192.0.2.9" and client_address({"client": None}) == "unknown"
