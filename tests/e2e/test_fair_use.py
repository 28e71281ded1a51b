"""What one tenant may take: places are reserved at admission, bulk runs have a least rate, workflows and actions a quota."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from cli.client import Client, CliError
from tests.e2e.test_accounts import new_tenant
from tests.e2e.test_alfred import raw
from tests.e2e.test_gateway import ended
from tests.eventually import eventually

pytestmark = pytest.mark.kafka


async def test_ten_requests_at_once_open_one_job(client: Client) -> None:
    _, admin, producer = await new_tenant(client, {"jobs_open": 1})
    async with admin, producer:
        key = uuid.uuid4().hex
        sent = {"workflow": "test-approval"}
        answers = await asyncio.gather(*(raw(producer, "POST", "/v1/jobs", json=sent) for _ in range(9)))
        assert sorted(status for status, _, _ in answers) == [201] + [429] * 8
        await raw(producer, "POST", f"/v1/jobs/{next(b['job_id'] for s, b, _ in answers if s == 201)}/cancel", json={})

        async def again() -> Any:
            status, body, _ = await raw(producer, "POST", "/v1/jobs", json=sent, headers={"idempotency-key": key})
            return body if status == 201 else None

        made = await eventually(again, 20)
        repeats = [await raw(producer, "POST", "/v1/jobs", json=sent, headers={"idempotency-key": key}) for _ in range(3)]
        assert [(s, b["job_id"]) for s, b, _ in repeats] == [(201, made["job_id"])] * 3, "a repeat is never refused"
        status, _, _ = await raw(producer, "POST", "/transform/v1/jobs", json={"workflow_id": "noop-five", "data": {"a": 1}})
        assert status == 429


async def test_entries_of_the_silo_count(client: Client) -> None:
    _, admin, producer = await new_tenant(client, {"files_per_day": 2, "bytes_per_day": 5000})
    async with admin, producer:
        status, _, _ = await raw(producer, "POST", "/silo/v1/entries", json={"data": {"words": "x" * 6000}})
        assert status == 429, "bytes"
        answers = await asyncio.gather(
            *(raw(producer, "POST", "/silo/v1/entries", json={"key": f"k{n}", "data": {"n": n}}) for n in range(5))
        )
        assert sorted(status for status, _, _ in answers) == [200, 200, 429, 429, 429]
        used = (await admin.call("GET", "/v1/tenant"))["used"]
        assert used["files"] == 2 and 0 < used["bytes"] < 5000


async def test_a_bulk_run_has_a_least_and_a_highest_rate(client: Client) -> None:
    for rate in (1e-9, 0.09, 1001):
        status, body, _ = await raw(client, "POST", "/v1/bulk", json={"verb": "cancel", "filter": {}, "rate_per_s": rate})
        assert status == 400 and body["field"] == "rate_per_s"


async def test_workflows_and_new_actions_are_limited_and_workflows_deleted(client: Client) -> None:
    tenant, admin, producer = await new_tenant(client, {"workflows": 1, "actions": 1})

    def flow(action: str) -> dict[str, Any]:
        return {"name": "f", "steps": [{"id": "1", "name": "a", "action": action}]}

    async with admin, producer:
        status, body, _ = await raw(
            admin,
            "PUT",
            "/transform/v1/workflows/one",
            json={"steps": [*flow("acme.x1")["steps"], {"id": "2", "name": "b", "action": "acme.x2"}]},
        )
        assert status == 422 and "acme.x1" in str(body)
        await client.call("PUT", f"/v1/tenants/{tenant}/actions/acme.x2")
        assert (await raw(admin, "PUT", "/transform/v1/workflows/one", json=flow("acme.x2")))[0] == 200
        assert (await raw(admin, "PUT", "/transform/v1/workflows/two", json=flow("noop")))[0] == 429
        assert (await raw(admin, "DELETE", "/transform/v1/workflows/one"))[0] == 204
        assert (await raw(admin, "GET", "/transform/v1/workflows/one"))[0] == 404
        assert (await raw(admin, "PUT", "/transform/v1/workflows/two", json=flow("noop")))[0] == 200
        assert (await raw(admin, "PUT", f"/v1/tenants/{tenant}/actions/acme.x9"))[0] == 403


async def test_a_deleted_workflow_starts_no_job_and_its_jobs_go_on(client: Client) -> None:
    name = f"gone-{uuid.uuid4().hex[:8]}"
    steps = [{"name": "ask", "wait": {"kind": "poke"}, "scope": "job"}]
    await client.call("POST", f"/v1/workflows/{name}/publish", json={"name": name, "version": 1, "steps": steps})
    job_id = (await client.call("POST", "/v1/jobs", json={"workflow": name}))["job_id"]
    await client.call("PUT", f"/v1/schedules/{name}", json={"cron": "0 0 1 1 *", "workflow": name})
    with pytest.raises(CliError, match="starts jobs of"):
        await client.call("DELETE", f"/v1/workflows/{name}")
    await client.call("DELETE", f"/v1/schedules/{name}")
    await client.call("DELETE", f"/v1/workflows/{name}")

    async def hidden() -> bool:
        return name not in str(await client.call("GET", "/v1/workflows"))

    await eventually(hidden, 10)
    assert (await client.call("GET", f"/v1/workflows/{name}?version=1"))["definition"]["name"] == name

    async def refused() -> bool:
        try:
            made = await client.call("POST", "/v1/jobs", json={"workflow": name}, headers={"prefer": "wait=5"})
        except CliError as error:
            return "there is no workflow" in str(error)
        return bool(made["stage"] in ("invalid", "failed"))

    await eventually(refused, 15, 0.5)
    await client.call("POST", f"/v1/jobs/{job_id}/poke", json={})
    assert (await ended(client, job_id))["stage"] == "completed"
    with pytest.raises(CliError, match="comes from a file"):
        await client.call("DELETE", "/v1/workflows/documents")
