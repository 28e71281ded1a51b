"""What a browser gets from a running pipeline: closed headers from every server, and no address that a caller chose."""

from __future__ import annotations

import json
import uuid
from typing import Any

import aiohttp
import pytest

from cli.client import Client
from shared.web.form_data import FormData
from tests.conftest import Pipeline
from tests.e2e.test_gateway import ended, raw, session_with
from tests.e2e.test_uploads import TUS, said

pytestmark = pytest.mark.kafka
WANTED = {
    "x-content-type-options": "nosniff", "x-frame-options": "DENY", "referrer-policy": "no-referrer",
    "content-security-policy": "frame-ancestors 'none'",
}  # fmt: skip
EVIL = {"host": "evil.example", "x-forwarded-host": "evil.example", "forwarded": "host=evil.example"}


async def test_every_server_closes_its_answers(pipeline: Pipeline) -> None:
    servers = {name: port for name, port in pipeline.state["ports"].items() if not name.startswith("kafka")}
    assert {"ingest", "notifier", "session", "job_orchestrator", "stage_worker"} <= servers.keys()
    async with aiohttp.ClientSession() as http:
        for name, port in servers.items():
            for path in ("/health/live", "/health/ready", "/docs", "/nothing", "/v1/jobs", "/socket.io/?EIO=4&transport=polling"):
                async with http.get(f"http://127.0.0.1:{port}{path}") as answer:
                    for header, value in WANTED.items():
                        assert value in answer.headers.get(header, ""), (name, path, header, answer.status)


async def test_downloads_are_saved_and_never_shown(client: Client) -> None:
    session = await session_with(client)
    form = FormData()
    form.add_field("session_id", session)
    form.add_field("file", b"<html><script>alert(1)</script>", filename="page.html", content_type="text/html")
    status, body, _ = await raw(client, "POST", "/api/file/uploadfile", data=form)
    assert status == 200, body
    file_id = body["file_id"]
    await ended(client, (await client.call("POST", "/api/job/create", json={"session_id": session}))["job_id"])
    url = (await client.call("POST", f"/api/file/share/{file_id}"))["url"]
    assert url.startswith(client.target.url)
    for path in (f"/api/file/download/{file_id}", url.removeprefix(client.target.url)):
        status, _, headers = await raw(client, "GET", path)
        assert status == 200 and headers["Content-Type"] == "application/octet-stream"
        assert headers["Content-Disposition"].startswith("attachment") and "sandbox" in headers["Content-Security-Policy"]


async def test_no_answer_holds_the_host_header(client: Client) -> None:
    session = await session_with(client, "letter-offer.docx")
    job = await ended(client, (await client.call("POST", "/api/job/create", json={"session_id": session}))["job_id"])
    entry, key = str(uuid.uuid4()), {"authorization": f"Bearer {client.target.key}"}
    upload = {**TUS, "upload-length": "5", "upload-metadata": said(session_id=await session_with(client), filename="a.txt")}
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", f"/api/file/share/{job['files'][0]['id']}", {}), ("POST", "/v1/uploads", {"headers": upload}),
        ("PUT", f"/silo/v1/entries/{entry}", {"json": {"data": {}}}),
        ("PUT", f"/silo/v1/entries/{entry}/files/f-{entry}", {"json": {"name": "a", "data": "aGVsbG8="}}),
        ("GET", f"/silo/v1/entries/{entry}", {}), ("GET", "/v1/jobs/", {}), ("GET", "/docs/", {}), ("GET", "/openapi.json", {}),
    ]  # fmt: skip
    async with aiohttp.ClientSession(client.target.url) as http:
        for method, path, more in asked:
            headers = {**key, **EVIL, **more.pop("headers", {})}
            async with http.request(method, path, headers=headers, allow_redirects=False, **more) as answer:
                text = await answer.text() + json.dumps(dict(answer.headers))
                assert answer.status < 400 and "evil.example" not in text, (method, path, answer.status, text[:500])
