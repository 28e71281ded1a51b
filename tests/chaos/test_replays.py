"""Two gateways on one database refuse signed requests that are replayed or changed."""

from __future__ import annotations

import asyncio
import os
import random
import time
import uuid
from urllib.parse import quote

import aiohttp
import pytest

from cli.client import Client
from services.ingest.core import amx
from tests.conftest import Pipeline

pytestmark = [pytest.mark.kafka, pytest.mark.chaos, pytest.mark.slow]
COUNT = int(os.environ.get("STAGELINE_AMX_REPLAYS", "3000"))
AT_ONCE = 32


def signed(base: str, app: dict[str, str], path: str, at: int | None = None) -> str:
    """A fresh header for `GET path`."""
    header = amx.AmxHeader(app["secret_key"], "", str(uuid.uuid4()), str(int(time.time()) if at is None else at))
    key = amx.decode_key(app["api_key"])
    assert key is not None
    signature = amx.signature(app["secret_key"], key, "GET", quote(base + path, safe="").lower(), header, "")
    return f"amx {app['secret_key']}:{signature}:{header.nonce}:{header.timestamp}"


def changed(header: str, dice: random.Random) -> str:
    """The header with a change, so that its signature no longer matches."""
    scheme, _, value = header.partition(" ")
    parts = value.split(":")
    which = dice.randrange(4)
    place = dice.randrange(len(parts[which]))
    letters = "0123456789" if which == 3 else "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/"
    other = dice.choice([c for c in letters if c != parts[which][place]])
    parts[which] = parts[which][:place] + other + parts[which][place + 1 :]
    return f"{scheme} {':'.join(parts)}"


@pytest.mark.timeout(600)
async def test_no_replayed_or_changed_header_is_taken(scaled: Pipeline) -> None:
    ports = scaled.state["ports"]
    doors = [f"http://127.0.0.1:{ports[name]}" for name in ("ingest", "ingest-2")]
    path = "/api/tag/all"
    async with Client(scaled.target()) as client:
        app = await client.call("POST", "/v1/applications", json={"user_name": "sdk"})
    dice = random.Random(6)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE)) as http:

        async def send(base: str, header: str) -> int:
            async with http.get(base + path, headers={"authorization": header}) as answer:
                await answer.read()
                return answer.status

        used = [(base, signed(base, app, path)) for base in doors for _ in range(50)]
        assert await asyncio.gather(*(send(*pair) for pair in used)) == [200] * len(used), "each header is accepted once"
        for _ in range(50):
            # The signature covers the host, so both gateways have the same name.
            header = signed("http://stageline.example", app, path)
            both = await asyncio.gather(*(_at(http, base, path, header) for base in doors for _ in range(4)))
            assert sorted(both) == [200] + [401] * 7, "one of eight requests at the same time, at two gateways, is accepted"
        statuses: dict[int, int] = {}
        for start in range(0, COUNT, AT_ONCE):
            chosen = [dice.choice(used) for _ in range(min(AT_ONCE, COUNT - start))]
            sent = [
                (base, header if n % 2 else changed(signed(base, app, path), dice)) for n, (base, header) in enumerate(chosen)
            ]
            for status in await asyncio.gather(*(send(*pair) for pair in sent)):
                statuses[status] = statuses.get(status, 0) + 1
        assert statuses == {401: COUNT}
        old = signed(doors[0], app, path, int(time.time()) - 301)
        assert await send(doors[0], old) == 401, "the time is outside the window"
    print(f"{COUNT} replayed or changed headers over two doors: {statuses}")


async def _at(http: aiohttp.ClientSession, base: str, path: str, header: str) -> int:
    async with http.get(base + path, headers={"authorization": header, "host": "stageline.example"}) as answer:
        return answer.status
