"""A stopping service answers requests that it cannot finish in their dialect."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from services.ingest.http import errors
from services.notifier.adapters.http import problem
from shared.database.faults import ConstraintViolated
from shared.errors import Outcome, Retry, Stop
from shared.web.bounded_http import bounded
from shared.web.connections import ConnectionLimit
from shared.web.middleware import CloseOnShutdown, ErrorShape, failure_handlers
from tests.eventually import eventually

NEVER = 3600


async def go(shape: ErrorShape, path: str) -> tuple[int, str, str]:
    """Status, Retry-After and body of the answer to a request of `path` that is under way while its server is asked to go."""
    entered = asyncio.Event()

    async def wait(request: Request) -> Response:
        entered.set()
        await asyncio.wait_for(asyncio.Event().wait(), NEVER)
        return PlainTextResponse("never")

    async def stream(request: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"first"
            entered.set()
            await asyncio.wait_for(asyncio.Event().wait(), NEVER)

        return StreamingResponse(chunks())

    app = Starlette(routes=[Route("/stream", stream), Route("/{rest:path}", wait, methods=["POST"])])
    app.add_middleware(CloseOnShutdown, shape=shape)
    sock = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app, http=bounded(ConnectionLimit(100, 100)), lifespan="off", log_config=None, timeout_graceful_shutdown=1)
    )
    serving = asyncio.create_task(server.serve(sockets=[sock]))

    async def up() -> bool:
        return server.started

    await eventually(up, 10)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{sock.getsockname()[1]}") as client:
        asking = asyncio.create_task(_ask(client, path))
        await asyncio.wait_for(entered.wait(), 10)
        server.should_exit = True
        try:
            return await asking
        finally:
            await serving


async def _ask(client: aiohttp.ClientSession, path: str) -> tuple[int, str, str]:
    async with client.request("GET" if path == "/stream" else "POST", path) as answer:
        return answer.status, answer.headers.get("retry-after", ""), await answer.text()


@pytest.mark.parametrize(
    ("shape", "path", "named"),
    [
        (errors.shaped, "/api/file/uploadfile", {"error": "Service Unavailable"}),
        (errors.shaped, "/conversion/v1.0/rest/jobs", {"status": 503, "title": "Service Unavailable"}),
        (errors.shaped, "/v1/jobs", {"status": 503, "type": "urn:stageline:error:stopping"}),
        (problem, "/v1/webhooks", {"status": 503, "type": "urn:stageline:error:stopping"}),
    ],
)
async def test_a_request_cut_by_a_shutdown_is_answered_in_its_dialect(
    shape: ErrorShape, path: str, named: dict[str, object]
) -> None:
    status, retry_after, text = await go(shape, path)
    assert status == 503 and retry_after == "5"
    body = json.loads(text)
    assert {k: body[k] for k in named} == named and "Repeating the request is safe" in text


async def test_a_response_that_has_begun_is_aborted() -> None:
    with pytest.raises(aiohttp.ClientPayloadError):
        await go(problem, "/stream")


@pytest.mark.parametrize(
    ("error", "status"),
    [(ConstraintViolated("constraint_violated", "a row"), 503), (Retry("away", "x"), 503), (Stop("schema", "x"), 500)],
)
async def test_a_lost_race_may_be_tried_again_and_a_bug_may_not(error: Exception, status: int) -> None:
    request = Request({"type": "http", "method": "POST", "path": "/v1/jobs", "headers": [], "query_string": b""})
    answer = await failure_handlers(problem)[Outcome](request, error)
    assert (answer.status_code, answer.headers.get("retry-after")) == (status, "5" if status == 503 else None)
