"""Tenants, users, keys and quotas: rights, counters and isolation of tenants."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from cli.client import Client
from shared import clock
from tests.conftest import SAMPLES, Pipeline
from tests.e2e.test_gateway import form, raw, session_with
from tests.eventually import eventually

pytestmark = pytest.mark.kafka
LETTER = "letter-offer.docx"


async def new_tenant(client: Client, quotas: dict[str, int] | None = None) -> tuple[str, Client, Client]:
    """A tenant's id, its admin and its producer."""
    tenant = f"t-{clock.new_root()}"
    await client.call("PUT", f"/v1/tenants/{tenant}", json={"name": tenant.upper(), "quotas": quotas or {}})
    made = [
        await client.call("POST", "/v1/keys", json={"user_name": role, "role": role, "tenant_id": tenant})
        for role in ("admin", "producer")
    ]
    targets = [type(client.target)(client.target.url, client.target.notifier_url, m["key"]) for m in made]
    return tenant, Client(targets[0]), Client(targets[1])


async def test_an_admin_manages_its_own_tenant_alone(client: Client, pipeline: Pipeline) -> None:
    tenant, admin, producer = await new_tenant(client)
    mine = await client.call("POST", "/v1/keys", json={"user_name": "ann", "role": "reader"})
    await client.call("POST", "/v1/applications", json={"user_name": "sdk"})
    async with admin, producer:
        for method, path, body in (
            ("PUT", "/v1/tenants/default", {"name": "Mine now"}), ("PUT", f"/v1/tenants/{tenant}", {"name": "x", "quotas": {"jobs_open": 9}}),
            ("GET", "/v1/tenants", None), ("POST", "/v1/keys", {"user_name": "x", "tenant_id": "default", "role": "admin"}),
        ):  # fmt: skip
            assert (await raw(admin, method, path, json=body))[0] == 403, path
        assert (await raw(admin, "DELETE", f"/v1/keys/{mine['key_id']}"))[0] == 404, "another tenant's key is not found"
        for path in ("/v1/keys", "/v1/users", "/v1/applications", "/v1/audit"):
            assert (await raw(producer, "GET", path))[0] == 403
        user = f"u-{clock.new_root()}"
        assert (await raw(admin, "PUT", f"/v1/users/{user}", json={"role": "reader"}))[0] == 400, "a new user has a password"
        assert (await raw(admin, "PUT", f"/v1/users/{user}", json={"password": "too short"}))[0] == 400
        assert (await raw(admin, "PUT", f"/v1/users/{user}", json={"password": "long enough now", "role": "reader"}))[0] == 200
        assert (await raw(client, "PUT", f"/v1/users/{user}", json={"password": "long enough now"}))[0] == 409
        assert (await raw(client, "DELETE", f"/v1/users/{user}"))[0] == 404
        assert [u["user_name"] for u in (await admin.call("GET", "/v1/users"))["result"]] == [user]
        app = await admin.call("POST", "/v1/applications", json={"user_name": "sdk"})
        assert (await raw(client, "DELETE", f"/v1/applications/{app['secret_key']}"))[0] == 404
        assert [a["secret_key"] for a in (await admin.call("GET", "/v1/applications"))["result"]] == [app["secret_key"]]
        assert {k["role"] for k in (await admin.call("GET", "/v1/keys"))["result"]} == {"admin", "producer"}
        acts = [(a["verb"], a["by"]) for a in (await admin.call("GET", "/v1/audit"))["result"]]
        assert ("user.put", "admin") in acts and ("application.issue", "admin") in acts and ("key.issue", "admin") in acts
        assert "application.issue" in pipeline.command("audit", "--limit", "500").stdout, "and so can the command line"
        assert ("tenant.put", "admin") in acts, "the tenant can read the platform's changes to it"


async def test_nothing_of_another_tenant_is_visible(client: Client) -> None:
    session = await session_with(client, LETTER)
    job_id = (await client.call("POST", "/api/job/create", json={"session_id": session}))["job_id"]
    file_id = (await client.call("GET", f"/api/job/detail/{job_id}"))["files"][0]["id"]
    _, admin, producer = await new_tenant(client)
    async with admin, producer:
        for path in (
            f"/api/deferred/detail/{session}", f"/api/job/detail/{job_id}", f"/api/file/detail/{file_id}", f"/api/file/download/{file_id}",
            f"/api/file/events/{file_id}", f"/api/file/versions/{file_id}", f"/api/values/file/{file_id}",
            f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}/history", f"/v1/jobs/{job_id}/why", f"/v1/jobs/{job_id}/results.zip",
            f"/v1/files/{file_id}/text", f"/v1/files/{file_id}/result",
        ):  # fmt: skip
            assert (await raw(admin, "GET", path))[0] == 404, path
        for path in (
            f"/api/job/cancel/{job_id}",
            f"/api/file/share/{file_id}",
            *(f"/v1/jobs/{job_id}/{v}" for v in ("cancel", "terminate", "pause", "resume", "rerun")),
        ):
            assert (await raw(admin, "POST", path, json={}))[0] == 404, path
        assert (await raw(admin, "DELETE", f"/v1/jobs/{job_id}"))[0] == 404
        assert (await raw(producer, "POST", "/api/job/create", json={"session_id": session}))[0] == 404
        for path in ("/api/job/all", "/api/file/all", "/v1/jobs", "/v1/search?q=offer"):
            assert (await admin.call("GET", path))["result"] == [], path
        assert await admin.call("GET", "/api/values/tag/letter") == []


async def test_a_key_ends_at_its_expiry(client: Client, pipeline: Pipeline) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    issued = await client.call("POST", "/v1/keys", json={"user_name": "brief", "role": "reader", "expires_at": soon})
    headers = {"authorization": f"Bearer {issued['key']}"}
    seen: dict[str, set[int]] = {"door": set(), "notifier": set()}

    async def over() -> bool:
        for name, url in (("door", f"{client.target.url}/v1/jobs"), ("notifier", f"{client.target.notifier_url}/v1/webhooks")):
            async with client.http.get(url, headers=headers) as answer:
                seen[name].add(answer.status)
        return all(401 in found for found in seen.values()) and datetime.now(UTC).isoformat() > soon

    await eventually(over, 15)
    assert 200 in seen["door"]
    past = {"user_name": "x", "expires_at": "2020-01-01T00:00:00Z"}
    assert (await raw(client, "POST", "/v1/keys", json=past))[0] == 400


async def test_requests_a_minute(client: Client) -> None:
    _, admin, producer = await new_tenant(client, {"requests_per_minute": 20})
    async with admin, producer:

        async def refused() -> Any:
            status, body, headers = await raw(producer, "GET", "/api/tag/all")
            return (body, headers) if status == 429 else None

        body, headers = await eventually(refused, 30, 0.001)
        assert "20 requests" in body["message"] and 1 <= int(headers["Retry-After"]) <= 60
        status, _, headers = await raw(client, "GET", "/api/tag/all")
        assert status == 200 and int(headers["X-RateLimit-Remaining"]) > 0, "the limit does not affect another tenant"
        assert int(headers["X-RateLimit-Reset"]) - clock.unix() <= 60


async def test_files_bytes_and_jobs(client: Client) -> None:
    _, admin, producer = await new_tenant(client, {"files_per_day": 2, "bytes_per_day": 1_000_000, "jobs_open": 1})
    async with admin, producer:
        session = await session_with(producer, LETTER, LETTER)
        status, body, headers = await raw(producer, "POST", "/api/file/uploadfile", data=form(session, LETTER))
        assert status == 429 and "2 files today" in body["message"] and int(headers["Retry-After"]) > 0
        used = await admin.call("GET", "/v1/tenant")
        size = (SAMPLES / LETTER).stat().st_size
        assert used["used"] == {"files": 2, "bytes": 2 * size, "jobs_open": 0} and used["quotas"]["jobs_open"] == 1
        held = {"session_id": session, "workflow": "test-approval"}
        job_id = (await producer.call("POST", "/api/job/create", json=held))["job_id"]

        async def shut() -> Any:
            return (await admin.call("GET", "/v1/tenant"))["used"]["jobs_open"] == 1

        await eventually(shut, 10)
        for path, sent in (
            ("/v1/jobs", {}),
            ("/api/file/upload", {"url": "https://example.com/a.pdf"}),
            ("/api/job/create", {"session_id": "x"}),
        ):
            status, body, headers = await raw(producer, "POST", path, json=sent)
            assert status == 429 and headers["Retry-After"] == "5" and "open" in (body.get("message") or body["detail"]), path
        await producer.call("POST", f"/v1/jobs/{job_id}/cancel", json={})
        await client.call("PUT", f"/v1/tenants/{used['tenant_id']}", json={"name": "x", "quotas": {"bytes_per_day": size}})

        async def too_many_bytes() -> Any:
            status, body, _ = await raw(producer, "POST", "/api/file/uploadfile", data=form(session, LETTER))
            return status == 429 and "bytes today" in body["message"]

        await eventually(too_many_bytes, 10)


async def test_a_key_is_shown_once(client: Client, pipeline: Pipeline) -> None:
    issued = await client.call("POST", "/v1/keys", json={"user_name": "once", "role": "reader"})
    listed = (await client.call("GET", "/v1/keys"))["result"]
    assert issued["key"] not in str(listed) and issued["key"][:8] in [k["prefix"] for k in listed]
    stored = b"".join(p.read_bytes() for p in pipeline.data_dir.glob("*.db*"))
    assert issued["key"].encode() not in stored and issued["key_id"].encode() in stored
    async with aiohttp.ClientSession() as stranger:
        typo = issued["key"][:-1] + ("0" if issued["key"][-1] != "0" else "1")
        async with stranger.get(f"{client.target.url}/v1/jobs", headers={"authorization": f"Bearer {typo}"}) as answer:
            assert answer.status == 401 and answer.headers["WWW-Authenticate"] == "Bearer"


async def test_a_revoked_key_ends_everywhere_within_five_seconds(client: Client) -> None:
    issued = await client.call("POST", "/v1/keys", json={"user_name": "gone", "role": "reader"})
    headers = {"authorization": f"Bearer {issued['key']}"}
    doors = (f"{client.target.url}/v1/jobs", f"{client.target.notifier_url}/v1/webhooks")

    async def everywhere(status: int) -> bool:
        found = []
        for url in doors:
            async with client.http.get(url, headers=headers) as answer:
                found.append(answer.status)
        return found == [status] * len(doors)

    await eventually(lambda: everywhere(200), 10)
    await client.call("DELETE", f"/v1/keys/{issued['key_id']}")
    await eventually(lambda: everywhere(401), 5)
