"""Special cases of deferred sessions: opened by an outside producer, and expired."""

from __future__ import annotations

from typing import Any

import pytest

from cli.client import Client
from contracts import OpenSession, to_record
from shared import clock
from shared.kafka.clients import make_producer
from tests.conftest import Pipeline
from tests.e2e.outside import OWNER, read_all
from tests.e2e.test_gateway import form, raw
from tests.eventually import eventually

pytestmark = pytest.mark.kafka


async def test_a_session_expires_and_takes_nothing_more(client: Client, pipeline: Pipeline) -> None:
    session_id = clock.new_root()
    command = OpenSession(command_id=clock.new_root(), session_id=session_id, owner=OWNER, issued_at=clock.now(), ttl_s=1)
    record = to_record(command, "/test")
    producer = await make_producer(pipeline.access, "test")
    await producer.send_and_wait("session.commands", record.value, record.key, headers=list(record.headers))
    await producer.stop()

    async def expired() -> Any:
        status, body, _ = await raw(client, "GET", f"/api/deferred/detail/{session_id}")
        return status == 200 and body["status"] == "expired"

    await eventually(expired, 20)
    status, body, _ = await raw(client, "POST", "/api/file/uploadfile", data=form(session_id, "late.txt", b"late"))
    assert status == 409 and "expired" in body["message"]
    status, body, _ = await raw(client, "POST", "/api/job/create", json={"session_id": session_id})
    assert status == 409 and "expired" in body["message"]
    events = [r for r in await read_all(pipeline, "session.events") if r.key == record.key]
    types = [dict(r.headers)["ce_type"].decode().split(".")[2] for r in events]
    assert types == ["opened", "expired", "command_refused", "command_refused"]


async def test_another_tenants_session_is_unknown_to_a_closer(client: Client, pipeline: Pipeline) -> None:
    session_id = (await client.call("POST", "/api/deferred/create"))["session_id"]
    key = (await client.call("POST", "/v1/keys", json={"user_name": "eve", "tenant_id": "elsewhere"}))["key"]
    async with Client(pipeline.target(key)) as other:
        status, body, _ = await raw(other, "POST", "/api/file/uploadfile", data=form(session_id, "x.txt", b"x"))
        assert status == 404 and "does not exist" in body["message"]
    assert (await client.call("GET", f"/api/deferred/detail/{session_id}"))["files"] == []
