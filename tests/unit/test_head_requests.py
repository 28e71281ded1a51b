"""HEAD is answered wherever GET is: the same status and headers, and nothing is read for a content that nobody sees."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from services.ingest.dialects.pdftools.common import PREFIX
from shared.web.head_requests import HeadRequests, asked_method
from tests.gateway_app import BASE, InProcess, gateway_app, operations

VARYING = ("date", "x-ratelimit-remaining", "x-ratelimit-reset", "www-authenticate")
OWN = {path for method, path in operations("/") if method == "HEAD"}
PATHS = sorted({path for method, path in operations("/") if method == "GET"} - OWN)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[InProcess]:
    async with gateway_app(tmp_path) as made:
        yield made


def seen(answer: httpx.Response) -> tuple[int, dict[str, str]]:
    """Status and headers, without those that differ from call to call."""
    return answer.status_code, {name: value for name, value in answer.headers.items() if name not in VARYING}


async def test_every_get_of_every_dialect_has_its_head(gateway: InProcess) -> None:
    async with gateway.http(**{"x-api-key": await gateway.key("admin", "default")}) as http:
        assert len(PATHS) > 60
        for path in PATHS:
            there = re.sub(r"{[^}]*}", "x", path)
            got, head = await http.get(there), await http.head(there)
            assert (seen(head), head.content) == (seen(got), b""), path


async def test_a_head_in_xml_has_the_length_of_the_xml(gateway: InProcess) -> None:
    headers = {"x-api-key": await gateway.key(), "accept": "application/xml"}
    async with gateway.http(**headers) as http:
        got, head = await http.get(f"{PREFIX}/workflows"), await http.head(f"{PREFIX}/workflows")
    assert seen(head) == seen(got) and head.headers["content-length"] == str(len(got.content)) and head.content == b""


async def test_a_head_of_its_own_is_kept(gateway: InProcess) -> None:
    async with gateway.http(**{"x-api-key": await gateway.key(), "tus-resumable": "1.0.0"}) as http:
        assert [(await http.request(method, "/v1/uploads/x")).status_code for method in ("HEAD", "GET")] == [404, 405]


async def test_without_get_there_is_no_head(gateway: InProcess) -> None:
    async with gateway.http(**{"x-api-key": await gateway.key()}) as http:
        assert (await http.head(f"{PREFIX}/jobs/x:start")).status_code == 405
        assert (await http.head("/nothing/here")).status_code == 404
    async with gateway.http() as stranger:
        assert (await stranger.head(f"{PREFIX}/jobs/")).status_code == 401


async def test_a_signature_covers_the_method_that_was_sent(gateway: InProcess) -> None:
    app = await gateway.application()
    url = f"{BASE}/api/tagshelf/who-am-i"
    async with gateway.http() as http:
        for signed, status in (("HEAD", 200), ("GET", 401)):
            answer = await http.head(url, headers={"authorization": app.sign(signed, url, None)})
            assert answer.status_code == status, signed


async def test_nothing_is_read_for_the_content() -> None:
    sent: list[int] = []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            sent.append(1)
            yield b"x"

    async def stream(request: Request) -> Response:
        return StreamingResponse(endless(), headers={"x-kind": asked_method(request.scope)})

    async def own(request: Request) -> Response:
        return JSONResponse({}, headers={"x-kind": "own"})

    routes = [Route("/stream", stream, methods=["GET"]), Route("/own", own, methods=["HEAD"])]
    for route in routes[:1]:
        # Starlette adds HEAD to each GET; FastAPI's routes, which ours are, have none.
        route.methods = {"GET"}
    app = Starlette(routes=routes)
    app.add_middleware(HeadRequests, routes=routes)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE) as http:
        answer = await http.head("/stream")
        assert (answer.status_code, answer.headers["x-kind"], answer.content) == (200, "HEAD", b"") and len(sent) == 1
        assert (await http.head("/own")).headers["x-kind"] == "own"
