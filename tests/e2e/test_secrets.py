"""Two tenants, a webhook and a secret: who sees the value, and who may send it where."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from cli.client import Client
from contracts import CreateJob, JobRequest, Tenancy
from shared import clock
from stageline_kit import Producer
from tests.conftest import Pipeline
from tests.e2e.outside import read_from
from tests.e2e.test_accounts import new_tenant
from tests.e2e.test_gateway import ended, raw
from tests.eventually import eventually

pytestmark = pytest.mark.kafka


class Ear:
    """A receiver on loopback that keeps the authorization of each request."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str | None]] = []
        self.url = ""

    async def hook(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.heard.append((body["owner_id"], request.headers.get("authorization")))
        return web.json_response({})


@asynccontextmanager
async def listening() -> AsyncIterator[Ear]:
    ear, app = Ear(), web.Application()
    app.router.add_post("/hook", ear.hook)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    ear.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    try:
        yield ear
    finally:
        await runner.cleanup()


@pytest.fixture
async def ear() -> AsyncIterator[Ear]:
    async with listening() as ear:
        yield ear


@pytest.fixture
async def other() -> AsyncIterator[Ear]:
    async with listening() as ear:
        yield ear


async def published(client: Client, config: dict[str, Any], **step: Any) -> str:
    """A workflow with one step `tell`, which calls a URL."""
    name = f"tell-{clock.new_root()}"
    definition = {
        "name": name,
        "version": 1,
        "steps": [{"name": "tell", "action": "http.webhook", "scope": "job", "config": config, **step}],
    }
    await client.call("POST", f"/v1/workflows/{name}/publish", json=definition)

    async def there() -> Any:
        return (await raw(client, "GET", f"/v1/workflows/{name}"))[0] == 200 or None

    await eventually(there)
    return name


async def run(client: Client, workflow: str, **more: Any) -> dict[str, Any]:
    made = await client.call("POST", "/v1/jobs", json={"workflow": workflow, **more})
    return await ended(client, made["job_id"])


async def test_a_job_cannot_send_the_steps_secret_elsewhere(client: Client, ear: Ear, other: Ear) -> None:
    name = f"crm-{clock.new_root()}"
    await client.call("PUT", f"/v1/secrets/{name}", json={"value": "platform-value"})
    config = {"url": ear.url, "bearer_token": f"secret:platform/{name}"}
    workflow = await published(client, config)
    opened = await published(client, config, open=["url"])
    _, admin, producer = await new_tenant(client)
    async with admin, producer:
        status, body, _ = await raw(
            producer, "POST", "/v1/jobs", json={"workflow": workflow, "args": {"tell": {"url": other.url}}}
        )
        assert status == 400 and "args.tell.url" in str(body), body
        for args, field in (({"tell": {"sleep_s": 9}}, "args.tell.sleep_s"), ({"none": {}}, "args.none")):
            status, body, _ = await raw(producer, "POST", "/v1/jobs", json={"workflow": workflow, "args": args})
            assert status == 400 and field in str(body), body
        assert (await run(producer, workflow))["stage"] == "completed"
        assert (await run(producer, opened, args={"tell": {"url": other.url}}))["stage"] == "completed"
    assert [value for _, value in ear.heard] == ["Bearer platform-value"]
    assert [value for _, value in other.heard] == [None], "at another origin the step has no secret"


async def test_a_command_on_the_topic_is_judged_too(client: Client, pipeline: Pipeline, ear: Ear) -> None:
    workflow = await published(client, {"url": ear.url})
    job_id = clock.new_root()
    request = JobRequest(workflow=workflow, args={"tell": {"url": "http://127.0.0.1:9/"}})
    command = CreateJob(
        command_id=clock.new_root(), job_id=job_id, owner=Tenancy(tenant_id="default"), issued_at=clock.now(), job=request
    )
    async with Producer(pipeline.kafka, "/test", **pipeline.as_user("producer")) as producer:
        await producer.publish(command)

    async def invalid() -> Any:
        status, job, _ = await raw(client, "GET", f"/v1/jobs/{job_id}")
        return job if status == 200 and job["stage"] == "invalid" else None

    job = await eventually(invalid)
    assert job["error_messages"][0].startswith("args.tell.url: ") and job["error_messages"][0].endswith("[closed_parameter]")
    assert ear.heard == []


async def test_a_secret_is_its_tenants_and_nobody_reads_it(client: Client, pipeline: Pipeline, ear: Ear) -> None:
    value, name = f"value-{clock.new_root()}", f"own-{clock.new_root()}"
    workflow = await published(client, {"url": ear.url, "bearer_token": f"secret:{name}"}, retry={"max_attempts": 1})
    tenant, admin, producer = await new_tenant(client)
    async with admin, producer:
        assert (await raw(producer, "PUT", f"/v1/secrets/{name}", json={"value": value}))[0] == 403
        await admin.call("PUT", f"/v1/secrets/{name}", json={"value": value, "origins": [ear.url]})
        assert (await run(producer, workflow))["stage"] == "completed"
        assert ear.heard[-1] == (tenant, f"Bearer {value}")
        shown = [await admin.call("GET", path) for path in ("/v1/secrets", "/v1/audit")]
        shown.append(await client.call("GET", f"/v1/workflows/{workflow}"))
        assert value not in str(shown) and name in str(shown[0]) and f"secret:{name}" in str(shown[2])
        ours = await run(client, workflow)
        assert ours["stage"] == "failed" and "secret_unknown" in str(ours["error_messages"]), "another tenant has no such secret"
        await admin.call("PUT", f"/v1/secrets/{name}", json={"value": value, "origins": ["https://elsewhere.example"]})

        async def refused() -> Any:
            job = await run(producer, workflow)
            return "secret_refused" in str(job["error_messages"]) or None

        await eventually(refused)
        await admin.call("DELETE", f"/v1/secrets/{name}")
        assert (await raw(admin, "DELETE", f"/v1/secrets/{name}"))[0] == 404
        status, body, _ = await raw(admin, "PUT", f"/v1/secrets/{name}", json={"value": "x", "origins": ["nowhere"]})
        assert status == 400 and "origins.0" in str(body)
    for topic in ("secret.events", "stage.tasks.http.webhook", "stage.reports", "workflow.events", "job.commands", "job.events"):
        records = await read_from(pipeline.access, topic)
        assert records and not any(value.encode() in (r.value or b"") for r in records), topic
    written = [p for p in pipeline.data_dir.rglob("*") if p.is_file() and p.suffix in (".db", ".db-wal", ".log")]
    assert written and not any(value.encode() in path.read_bytes() for path in written)


async def test_a_secret_is_not_written_into_a_workflow(client: Client, ear: Ear) -> None:
    name = f"tell-{clock.new_root()}"
    step = {"name": "tell", "action": "http.webhook", "scope": "job", "config": {"url": ear.url, "bearer_token": "clear-text"}}
    definition = {"name": name, "version": 1, "steps": [step]}
    for method, path in (("PUT", f"/v1/workflows/{name}/draft"), ("POST", f"/v1/workflows/{name}/publish")):
        status, body, _ = await raw(client, method, path, json=definition)
        assert status == 400 and "steps.0.config.bearer_token" in str(body) and "stageline secrets set" in str(body), body
    flow = {"name": "Flow", "steps": [{"id": name, "name": "Tell", "action": "webhook", "config": step["config"]}]}
    for draft in (True, False):
        status, body, _ = await raw(client, "PUT", f"/transform/v1/workflows/{name}", json={**flow, "draft": draft})
        assert status == 422 and "stageline secrets set" in str(body), body


async def test_an_id_that_another_tenant_has_looks_like_one_that_was_used(client: Client) -> None:
    job_id = clock.new_root()
    await client.call("POST", "/v1/jobs", json={"workflow": "noop-five", "job_id": job_id})
    _, admin, producer = await new_tenant(client)
    async with admin, producer:
        theirs = await raw(producer, "POST", "/v1/jobs", json={"workflow": "noop-five", "job_id": job_id})
        mine = clock.new_root()
        await producer.call("POST", "/v1/jobs", json={"workflow": "noop-five", "job_id": mine})
        assert (await raw(producer, "POST", "/v1/jobs", json={"workflow": "noop-five", "job_id": mine}))[0] == 201
        assert theirs[0] == 409 and job_id not in str(theirs[1]), theirs
        assert (await raw(producer, "GET", f"/v1/jobs/{job_id}"))[0] == 404
    assert (await client.call("GET", f"/v1/jobs/{job_id}"))["id"] == job_id


async def test_the_command_line_sets_a_secret_and_shows_no_value(pipeline: Pipeline, tmp_path: Path) -> None:
    name, path = f"cli-{clock.new_root()}", tmp_path / "value"
    path.write_text("never-shown\n")
    done = pipeline.command("secrets", "set", name, "--from-file", str(path), "--origin", "https://crm.example.com/x")
    assert done.returncode == 0, done.stderr
    listed = pipeline.command("secrets", "list", "--json")
    assert name in listed.stdout and "https://crm.example.com:443" in listed.stdout and "never-shown" not in listed.stdout
    assert pipeline.command("secrets", "delete", name).returncode == 0
    assert name not in pipeline.command("secrets", "list").stdout
