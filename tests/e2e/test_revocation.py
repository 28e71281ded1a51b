"""Revoked means revoked within five seconds: for what is open, at every service, and for everything that a deleted user has."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
import socketio

from cli.client import Client
from shared import clock
from tests.conftest import Pipeline
from tests.e2e.test_gateway import ended, raw, session_with
from tests.eventually import eventually

pytestmark = pytest.mark.kafka
PROMISED_S = 5.0


async def key_of(client: Client, user: str, **more: Any) -> dict[str, Any]:
    """A new key, once the notifier knows it."""
    issued: dict[str, Any] = await client.call("POST", "/v1/keys", json={"user_name": user, "role": "operator", **more})

    async def known() -> bool:
        url = f"{client.target.notifier_url}/v1/webhooks"
        async with client.http.get(url, headers={"authorization": f"Bearer {issued['key']}"}) as answer:
            return answer.status == 200

    await eventually(known, 10)
    return issued


async def held_job(client: Client) -> str:
    session = await session_with(client, "letter-offer.docx")
    made = await client.call("POST", "/api/job/create", json={"session_id": session, "workflow": "test-approval"})
    return str(made["job_id"])


async def end_of_stream(url: str, key: str, begun: asyncio.Event) -> float:
    """Read the event stream until it ends; returns the time."""
    async with aiohttp.ClientSession() as http, http.get(f"{url}/events/stream", headers={"x-api-key": key}) as answer:
        assert answer.status == 200
        async for _ in answer.content:
            begun.set()
    return time.monotonic()


async def end_of_wait(url: str, path: str, key: str) -> tuple[int, float]:
    """Ask for a job that does not end, and wait; returns the status and the time of the answer."""
    headers = {"x-api-key": key, "prefer": "wait=60"}
    async with aiohttp.ClientSession() as http, http.get(url + path, headers=headers) as answer:
        await answer.read()
        return answer.status, time.monotonic()


async def all_end(client: Client, key: str, revoke: Callable[[], Awaitable[Any]]) -> None:
    """A stream, a socket and a long wait of the key end within the promised time of `revoke`."""
    job_id, begun = await held_job(client), asyncio.Event()
    stream = asyncio.create_task(end_of_stream(client.target.notifier_url, key, begun))
    wait = asyncio.create_task(end_of_wait(client.target.url, f"/v1/jobs/{job_id}", key))
    sockets, closed = socketio.AsyncClient(reconnection=False), asyncio.Event()
    sockets.on("disconnect", lambda *_: closed.set())
    await sockets.connect(f"{client.target.notifier_url}?apiKey={key}", transports=["websocket"])
    await asyncio.wait_for(begun.wait(), 20)
    assert not stream.done() and not wait.done() and not closed.is_set()
    revoked = time.monotonic()
    await revoke()
    async with asyncio.timeout(PROMISED_S + 5):
        stream_end, (status, wait_end) = await stream, await wait
        await closed.wait()
        socket_end = time.monotonic()
    assert status == 401
    assert max(stream_end, wait_end, socket_end) - revoked < PROMISED_S
    await client.call("POST", f"/v1/jobs/{job_id}/cancel", json={})


async def test_a_revoked_key_loses_what_it_has_open(client: Client) -> None:
    issued = await key_of(client, "streamer")
    await all_end(client, issued["key"], lambda: client.call("DELETE", f"/v1/keys/{issued['key_id']}"))


async def test_a_deleted_user_keeps_nothing(client: Client) -> None:
    name = f"user-{clock.new_root()}"
    await client.call("PUT", f"/v1/users/{name}", json={"password": "correct horse battery", "role": "reader"})
    issued = await key_of(client, name)
    token = {"grant_type": "password", "username": name, "password": "correct horse battery"}
    async with client.http.post(f"{client.target.url}/token", data=token) as answer:
        bearer = {"authorization": f"Bearer {(await answer.json())['access_token']}"}
    session = await session_with(client, "letter-offer.docx")
    job_id = (await client.call("POST", "/api/job/create", json={"session_id": session}))["job_id"]
    file_id = (await ended(client, job_id))["files"][0]["id"]
    share = f"{client.target.url}/api/file/share/{file_id}"
    async with aiohttp.ClientSession() as http, http.post(share, headers={"x-api-key": issued["key"]}) as answer:
        link = (await answer.json())["url"]
    async with aiohttp.ClientSession() as stranger:
        async with stranger.get(link) as answer:
            assert answer.status == 200
        async with stranger.get(f"{client.target.url}/v1/jobs", headers=bearer) as answer:
            assert answer.status == 200
        await all_end(client, issued["key"], lambda: client.call("DELETE", f"/v1/users/{name}"))
        async with stranger.get(link) as answer:
            assert answer.status == 404
        for headers in (bearer, {"x-api-key": issued["key"]}):
            async with stranger.get(f"{client.target.url}/v1/jobs", headers=headers) as answer:
                assert answer.status == 401


async def test_a_key_that_expires_loses_its_stream(client: Client) -> None:
    soon = clock.unix() + 6
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(soon))
    issued, begun = await key_of(client, "brief", expires_at=at), asyncio.Event()
    stream = asyncio.create_task(end_of_stream(client.target.notifier_url, issued["key"], begun))
    await asyncio.wait_for(begun.wait(), 20)
    await asyncio.wait_for(stream, 6 + PROMISED_S)
    assert clock.unix() - soon < PROMISED_S


async def test_the_command_line_verifies_the_audit(client: Client, pipeline: Pipeline) -> None:
    async with aiohttp.ClientSession() as stranger, stranger.get(f"{client.target.url}/api/job/all") as answer:
        assert answer.status == 401
    shown = await asyncio.to_thread(pipeline.command, "audit", "--verify")
    assert shown.returncode == 0 and "whole" in shown.stdout
    head = shown.stdout.split("head", 1)[1].split()
    again = await asyncio.to_thread(pipeline.command, "audit", "--verify", "--head", "".join(head))
    assert again.returncode == 0, again.stdout
    other = await asyncio.to_thread(pipeline.command, "audit", "--verify", "--head", f"1:{'0' * 64}")
    assert other.returncode == 1 and "broken at line 1" in other.stdout
    lines = (await client.call("GET", "/v1/audit?limit=500"))["result"]
    assert any(a["verb"] == "refused" and a["address"] == "127.0.0.1" for a in lines)
    assert (await raw(client, "GET", "/v1/audit/verification"))[1]["broken"] is None
