"""Events for Alfred's clients: the account's webhook with its challenge, and real-time events over Socket.IO."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import socketio
from aiohttp import web

from cli.client import Client
from contracts.alfred_view import company_id, tag_id
from shared import clock
from tests.conftest import SAMPLES
from tests.e2e.alfred_client import Alfred
from tests.eventually import eventually

pytestmark = pytest.mark.kafka
LETTER = SAMPLES / "letter-offer.docx"


class Registered:
    """The vendor's demo receiver (alfred-webhook-demo-node): answers the challenge, then takes events."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.honest = True
        self.challenges = 0

    async def __aenter__(self) -> Registered:
        app = web.Application()
        app.router.add_post("/hook", self.hook)
        self.runner = web.AppRunner(app, access_log=None)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}/hook"
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.runner.cleanup()

    async def hook(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body.get("type") == "url_verification":
            self.challenges += 1
            assert body["token"]
            return web.json_response({"challenge": body["challenge"] if self.honest else "x"})
        self.events.append(body)
        return web.Response()


async def test_the_webhook_of_an_account(client: Client) -> None:
    tenant = f"hooked-{clock.new_root()}"
    key = (await client.call("POST", "/v1/keys", json={"user_name": "h", "tenant_id": tenant}))["key"]
    alfred = Alfred(client.target.url, api_key=key)
    async with Registered() as receiver, Registered() as other:
        receiver.honest = False
        refused = await asyncio.to_thread(
            alfred.http.post, f"{alfred.base}/api/account/webhook", json={"url": receiver.url}, timeout=60
        )
        assert refused.status_code == 422 and refused.json()["field"] == "url" and receiver.challenges == 1
        receiver.honest = True
        first = await asyncio.to_thread(alfred.call, "POST", "account/webhook", json={"url": receiver.url})
        job_id = await asyncio.to_thread(alfred.process, LETTER)

        async def heard() -> Any:
            return "job_finished_event" in [
                e["event"]["event_name"] for e in receiver.events if e["event"].get("job_id") == job_id
            ]

        await eventually(heard, 60)
        again = await asyncio.to_thread(alfred.call, "POST", "account/webhook", json={"url": other.url})
        assert again["id"] == first["id"], "an account has one address"
        unreachable = await asyncio.to_thread(
            alfred.http.post, f"{alfred.base}/api/account/webhook", json={"url": "http://127.0.0.1:1/hook"}, timeout=60
        )
        assert unreachable.status_code == 422
    internal = await asyncio.to_thread(
        alfred.http.post, f"{alfred.base}/api/account/webhook", json={"url": "http://169.254.169.254/"}, timeout=60
    )
    assert internal.status_code == 400 and internal.json()["field"] == "url"


async def test_the_webhook_has_the_vendors_shape_and_is_flat_on_request(client: Client) -> None:
    tenant = f"flat-{clock.new_root()}"
    key = (await client.call("POST", "/v1/keys", json={"user_name": "h", "tenant_id": tenant}))["key"]
    alfred = Alfred(client.target.url, api_key=key)
    async with Registered() as receiver:
        await asyncio.to_thread(alfred.call, "POST", "account/webhook", json={"url": receiver.url, "flat": True})
        job_id = await asyncio.to_thread(alfred.process, LETTER)

        async def finished() -> Any:
            return [e for e in receiver.events if e["event_name"] == e["event"]["event_name"] == "job_finished_event"]

        await eventually(finished, 60)
    created = next(e for e in receiver.events if e["event_name"] == "job_create_event")
    assert created["company_id"] == company_id(tenant) and created["event_time"].is_integer()
    (file,) = (await asyncio.to_thread(alfred.call, "GET", f"job/detail/{job_id}"))["files"]
    assert created["file_urls"] == [f"{client.target.url}/api/file/download/{file['id']}"]
    tagged = next(e for e in receiver.events if e["event_name"] == "file_change_tag_event")
    assert tagged["new_tag_id"] == tag_id(tenant, "letter") and tagged["previous_tag_id"] is None


async def test_real_time_events(client: Client) -> None:
    heard: list[tuple[str, dict[str, Any]]] = []
    async with _connected(client, client.target.key, heard):
        tenant = f"quiet-{clock.new_root()}"
        key = (await client.call("POST", "/v1/keys", json={"user_name": "q", "tenant_id": tenant}))["key"]
        silent: list[tuple[str, dict[str, Any]]] = []
        async with _connected(client, key, silent):
            job_id = await asyncio.to_thread(Alfred(client.target.url, api_key=client.target.key).process, LETTER)

            async def finished() -> Any:
                return [
                    c for c, e in heard if e["event"]["event_name"] == "job_finished_event" and e["event"]["job_id"] == job_id
                ]

            channels = set(await eventually(finished, 60))
            await eventually(lambda: _three(heard, job_id), 10)
            assert channels <= {"job_event", "job_finished_event", "alfred_event_job_finished"} and not silent
    files = {c for c, e in heard if e["event_type"] == "file_event" and e["event"].get("job_id") == job_id}
    assert {"file_event", "file_done_event", "alfred_event_file_done"} <= files


async def _three(heard: list[tuple[str, dict[str, Any]]], job_id: str) -> bool:
    finished = [c for c, e in heard if e["event"]["event_name"] == "job_finished_event" and e["event"]["job_id"] == job_id]
    return sorted(finished) == ["alfred_event_job_finished", "job_event", "job_finished_event"]


class _connected:
    def __init__(self, client: Client, key: str, heard: list[tuple[str, dict[str, Any]]]) -> None:
        self.url = f"{client.target.notifier_url}?apiKey={key}"
        self.sockets = socketio.AsyncClient(reconnection=False)
        self.sockets.on("*", lambda name, body: heard.append((name, body)))

    async def __aenter__(self) -> None:
        # The notifier may not have read the new key yet.
        await eventually(self._connect, 10)

    async def _connect(self) -> bool:
        try:
            await self.sockets.connect(self.url, transports=["websocket"])
        except socketio.exceptions.ConnectionError:
            return False
        return True

    async def __aexit__(self, *error: object) -> None:
        await self.sockets.disconnect()


async def test_the_event_stream_requires_a_key(client: Client) -> None:
    for query in ("", "?apiKey=nope", "?apiKey=sl_" + "a" * 51):
        sockets = socketio.AsyncClient(reconnection=False)
        with pytest.raises(socketio.exceptions.ConnectionError):
            await sockets.connect(client.target.notifier_url + query)
        await sockets.disconnect()


async def test_a_revoked_key_receives_no_more_events(client: Client) -> None:
    issued = await client.call("POST", "/v1/keys", json={"user_name": "r", "role": "reader"})
    sockets = socketio.AsyncClient(reconnection=False)

    async def connect() -> bool:
        try:
            await sockets.connect(f"{client.target.notifier_url}?apiKey={issued['key']}", transports=["websocket"])
        except socketio.exceptions.ConnectionError:
            return False
        return True

    await eventually(connect, 10)
    await client.call("DELETE", f"/v1/keys/{issued['key_id']}")

    async def gone() -> bool:
        return not sockets.connected

    await eventually(gone, 15)
