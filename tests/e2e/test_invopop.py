"""Invopop's clients run unchanged: entries, workflows, jobs with their intents, pokes, webhooks, errors."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import uuid_utils
from aiohttp import web

from cli.client import Client
from tests.e2e.invopop_client import Invopop, InvopopError, failed
from tests.e2e.test_accounts import new_tenant
from tests.eventually import eventually

pytestmark = pytest.mark.kafka
INVOICE = {"$schema": "https://gobl.org/draft-0/envelope", "doc": {"code": "42", "totals": {"payable": "100.00"}}}


@pytest.fixture
async def invopop(client: Client) -> AsyncIterator[Invopop]:
    async with Invopop(client.target.url, client.target.key) as made:
        yield made


def step(name: str, action: str = "noop", **more: Any) -> dict[str, Any]:
    return {"id": str(uuid.uuid4()), "name": name, "action": action, **more}


async def flow(invopop: Invopop, *steps: dict[str, Any], **more: Any) -> str:
    flow_id = str(uuid.uuid4())
    await invopop.call("PUT", f"/transform/v1/workflows/{flow_id}", {"name": "Flow", "steps": list(steps), **more})
    return flow_id


async def refused(invopop: Invopop, method: str, path: str, body: Any = None, **query: Any) -> InvopopError:
    with pytest.raises(InvopopError) as error:
        await invopop.call(method, path, body, **query)
    return error.value


async def test_a_job_from_data_to_intents(invopop: Invopop) -> None:
    steps = [step("Sign"), step("Send")]
    flow_id = await flow(invopop, *steps)
    job = await invopop.run(flow_id, data=INVOICE, key=f"order-{uuid.uuid4()}", tags=["may"])
    assert invopop.status == 202 and job["status"] == "OK" and job["completed_at"] and not failed(job)
    assert [(i["name"], i["provider"], i["step_id"], i["completed"]) for i in job["intents"]] == [
        (s["name"], "noop", s["id"], True) for s in steps
    ]
    assert [[e["status"] for e in i["events"]] for i in job["intents"]] == [["RUN", "OK"]] * 2
    assert job["envelope"] == INVOICE and job["workflow_id"] == flow_id and job["tags"] == ["may"] and job["faults"] == []
    assert job["intents"][0]["integration_id"] == steps[0]["id"], "fields for clients from before 2023-06"
    entry = await invopop.call("GET", f"/silo/v1/entries/{job['silo_entry_id']}")
    assert entry["data"] == INVOICE and entry["env_schema"] == INVOICE["$schema"]
    assert (await invopop.call("GET", f"/transform/v1/jobs/key/{job['key']}"))["id"] == job["id"]
    await invopop.run(flow_id)
    page = await invopop.call("GET", "/transform/v1/jobs", limit="1")
    assert len(page["list"]) == 1 and page["limit"] == 1
    following = await invopop.call("GET", "/transform/v1/jobs", limit="1", cursor=page["next_cursor"])
    assert following["list"][0]["created_at"] <= page["list"][0]["created_at"] and following["cursor"] == page["next_cursor"]
    older = await invopop.call("GET", "/transform/v1/jobs", created_at=job["created_at"])
    assert all(j["created_at"] < job["created_at"] for j in older["list"])


async def test_the_editions(invopop: Invopop) -> None:
    flow_id = await flow(invopop, step("Only"))
    old = await invopop.run(flow_id, meta={"source": "shop", "count": 3})
    assert (
        invopop.status == 200
        and old["meta"] == {"source": "shop", "count": 3}
        and old["args"] == {"source": "shop", "count": "3"}
    )
    new = await invopop.run(flow_id, args={"source": "shop"})
    assert invopop.status == 202 and new["args"] == {"source": "shop"} and "envelope" not in new
    v1 = await invopop.call("PUT", f"/transform/v1/jobs/{uuid.uuid1()}", {"workflow_id": flow_id})
    assert invopop.status == 202 and v1["id"]


async def test_repeated_requests(invopop: Invopop) -> None:
    flow_id = await flow(invopop, step("Only"))
    path = f"/transform/v1/jobs/{uuid_utils.uuid7()}"
    body = {"workflow_id": flow_id, "data": INVOICE}
    first = await invopop.call("PUT", path, body)
    assert invopop.status == 202
    again = await invopop.call("PUT", path, body)
    assert invopop.status == 200 and again["id"] == first["id"]
    error = await refused(invopop, "PUT", path, {**body, "data": {"other": 1}})
    assert (error.status, error.key) == (409, "conflict")
    key = f"key-{uuid.uuid4()}"
    made = [await invopop.call("POST", "/transform/v1/jobs", {**body, "key": key}) for _ in range(2)]
    assert made[0]["id"] == made[1]["id"] and invopop.status == 200
    assert (await refused(invopop, "POST", "/transform/v1/jobs", {**body, "key": key, "tags": ["x"]})).status == 409
    assert (await refused(invopop, "PUT", f"/transform/v1/jobs/{uuid_utils.uuid7()}", {**body, "key": key})).status == 409
    at_once = await asyncio.gather(*(invopop.call("POST", "/transform/v1/jobs", {**body, "key": f"{key}-2"}) for _ in range(16)))
    assert len({j["id"] for j in at_once}) == 1


async def test_faults_of_a_job(invopop: Invopop) -> None:
    rejected = step("Check", "test.outcome", config={"fail": "KO"})
    job = await invopop.run(await flow(invopop, rejected, step("Never"), rescue=[step("Undo")]), data=INVOICE)
    assert job["status"] == "KO" and [i["name"] for i in job["intents"]] == ["Check", "Undo"]
    assert [e["status"] for e in job["intents"][0]["events"]] == ["RUN", "KO"]
    reason = {"code": "asked_to_fail", "message": "The step's config asks for this failure."}
    assert job["faults"] == [{"provider": "test.outcome", **reason}]
    assert failed(job), "after a rescue the outcome is that of the job"
    told = job["intents"][1]["events"][-1]
    assert [e["status"] for e in job["intents"][1]["events"]] == ["RUN", "OK", "KO"] and job["intents"][1]["completed"]
    assert (told["code"], told["message"]) == (reason["code"], f"Check: {reason['message']}")
    handled = step(
        "Check", "test.outcome", config={"fail": "KO"}, next=[{"status": "KO", "code": "asked_to_fail", "steps": [step("Mend")]}]
    )
    job = await invopop.run(await flow(invopop, handled, step("Send")), data=INVOICE)
    assert job["status"] == "OK" and [i["name"] for i in job["intents"]] == ["Check", "Mend", "Send"] and job["faults"] == []
    assert job["intents"][0]["events"][-1]["status"] == "KO"


async def test_errors(invopop: Invopop) -> None:
    flow_id = await flow(invopop, step("Only"))
    jobs = "/transform/v1/jobs"
    for method, path, body, status, field in (
        ("PUT", f"{jobs}/{uuid.uuid4()}", {"workflow_id": flow_id}, 422, "id"), ("PUT", f"{jobs}/x", {"workflow_id": flow_id}, 422, "id"),
        ("POST", jobs, {}, 422, "workflow_id"), ("POST", jobs, {"workflow_id": "nope"}, 422, "workflow_id"),
        ("POST", jobs, {"workflow_id": flow_id, "silo_entry_id": "nope"}, 422, "silo_entry_id"),
        ("POST", jobs, {"workflow_id": flow_id, "tags": "x"}, 422, "tags"), ("GET", f"{jobs}/{uuid.uuid4()}", None, 404, None),
        ("GET", f"{jobs}/key/nope", None, 404, None), ("GET", f"{jobs}?limit=101", None, 422, "limit"), ("GET", f"{jobs}?cursor=x", None, 422, "cursor"),
        ("GET", f"{jobs}?created_at=yesterday", None, 422, "created_at"), ("POST", f"{jobs}/intents", {"status": "RUN"}, 422, "status"),
        ("POST", f"{jobs}/intents", {"status": "POKE"}, 422, "id"), ("POST", f"{jobs}/intents", {"status": "POKE", "id": "x", "job_id": "y"}, 404, None),
        ("GET", "/transform/v1/workflows/nope", None, 404, None), ("GET", "/silo/v1/entries/nope", None, 404, None),
        ("PUT", "/transform/v1/workflows/w1", {"steps": [{"id": "a", "action": "?"}]}, 422, "steps"),
        ("PUT", "/transform/v1/workflows/w1", {"steps": "x"}, 422, "steps"),
    ):  # fmt: skip
        error = await refused(invopop, method, path, body)
        assert error.status == status and (field is None or field in error.fields), (path, body, error)
        assert error.key == ("validation" if status == 422 else "not_found"), (path, error)
    async with Invopop(invopop.base, "nope") as stranger:
        assert (await refused(stranger, "GET", jobs)).status == 401


async def test_workflows_are_drafts_and_versions(client: Client, invopop: Invopop) -> None:
    flow_id = str(uuid.uuid4())
    path = f"/transform/v1/workflows/{flow_id}"
    draft = await invopop.call("PUT", path, {"name": "A", "steps": [step("One")], "draft": True, "schema": "bill/invoice"})
    assert draft["version"] == "0" and draft["draft"] is True
    assert "workflow_id" in (await refused(invopop, "POST", "/transform/v1/jobs", {"workflow_id": flow_id})).fields
    first = await invopop.call("PATCH", path, {"name": "B"})
    assert first["version"] == "1" and first["name"] == "B" and first["steps"][0]["name"] == "One"
    second = await invopop.call("PUT", path, {"name": "B", "steps": [step("Two")]})
    assert (
        second["version"] == "2" and [v["version"] for v in second["versions"]] == ["1", "2"] and second["hash"] != first["hash"]
    )
    job = await invopop.run(flow_id)
    assert [i["name"] for i in job["intents"]] == ["Two"]
    assert flow_id in [f["id"] for f in (await invopop.call("GET", "/transform/v1/workflows", limit="100"))["list"]]
    _, admin, producer = await new_tenant(client)
    async with admin, producer, Invopop(client.target.url, admin.target.key) as other:
        assert (await refused(other, "GET", path)).status == 404
        assert (await refused(other, "POST", "/transform/v1/jobs", {"workflow_id": flow_id})).status == 422
        assert (await refused(other, "GET", f"/transform/v1/jobs/{job['id']}")).status == 404
        listed = (await admin.call("GET", "/v1/workflows"))["result"]
        assert not [w for w in listed if w["name"].startswith("tenant.")] and "documents" in [w["name"] for w in listed]


async def test_entries_and_their_files(invopop: Invopop) -> None:
    entry_id, key = str(uuid_utils.uuid7()), f"k-{uuid.uuid4()}"
    path = f"/silo/v1/entries/{entry_id}"
    made = await invopop.call("PUT", path, {"key": key, "data": INVOICE, "folder": "sales", "tags": ["a"]})
    assert made["state"] == "Draft" and made["digest"]["alg"] == "sha256" and made["attachments"] == []
    assert (await refused(invopop, "PUT", path, {"data": INVOICE})).status == 409, "a used id is always answered by 409"
    assert (await refused(invopop, "POST", "/silo/v1/entries", {"key": key})).status == 409
    inline = await invopop.call(
        "PUT", f"{path}/files/f1", {"name": "a.txt", "data": base64.b64encode(b"hello").decode(), "category": "note"}
    )
    assert inline["stored"] is True and inline["hash"] == hashlib.sha256(b"hello").hexdigest()
    content = b"x" * 1000
    announced = {"name": "b.pdf", "mime": "application/pdf", "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    placed = await invopop.call("PUT", f"{path}/files/f2", announced)
    assert placed["stored"] is False
    async with invopop.http.put(placed["url"], data=b"y" * 1000) as answer:
        assert answer.status == 422 and (await answer.json())["fields"]["hash"]
    async with invopop.http.put(placed["url"], data=content) as answer:
        assert answer.status == 200 and (await answer.json())["stored"] is True
    async with invopop.http.get(placed["url"]) as answer:
        assert await answer.read() == content
    found = await invopop.call("GET", f"/silo/v1/entries/key/{key}")
    assert {(a["id"], a["stored"]) for a in found["attachments"]} == {("f1", True), ("f2", True)}
    await invopop.call(
        "PUT", f"{path}/files/f3", {"name": "c.txt", "data": base64.b64encode(b"newer").decode(), "category": "note"}
    )
    assert {a["id"] for a in (await invopop.call("GET", path))["attachments"]} == {"f2", "f3"}, (
        "a file of the same category replaces the first"
    )
    at = "2026-05-01T10:00:00.000Z"
    for _ in range(2):
        assert (await invopop.call("PUT", f"{path}/states/{at}", {"key": "Sent"}))["key"] == "Sent"
    assert (await refused(invopop, "PUT", f"{path}/states/{at}", {"key": "Paid"})).status == 409
    await invopop.call("POST", f"{path}/states", {"key": "Paid"})
    assert (await invopop.call("GET", path))["state"] == "Paid"
    assert [s["key"] for s in (await invopop.call("GET", f"{path}/states"))["list"]] == ["Sent", "Draft", "Paid"]
    assert (await refused(invopop, "POST", f"{path}/states", {"key": "Empty"})).status == 422
    job = await invopop.run(await flow(invopop, step("Only")), silo_entry_id=entry_id, data={"ignored": 1})
    assert job["envelope"] == INVOICE and {a["name"] for a in job["attachments"]} == {"b.pdf", "c.txt"}
    assert entry_id in [e["id"] for e in (await invopop.call("GET", "/silo/v1/entries", limit="100"))["list"]]


async def test_a_poke_continues_a_waiting_job(client: Client, invopop: Invopop) -> None:
    made = await client.call("POST", "/v1/jobs", json={"workflow": "test-approval"})
    job_id = made["job_id"]

    async def waiting() -> Any:
        job = await invopop.call("GET", f"/transform/v1/jobs/{job_id}")
        found = [i for i in job["intents"] if i["name"] == "approve" and not i["completed"]]
        return found[0] if found else None

    intent = await eventually(waiting, 20)
    poked = await invopop.call(
        "POST", "/transform/v1/jobs/intents", {"id": intent["id"], "job_id": job_id, "status": "POKE", "message": "go on"}
    )
    assert "POKE" in [e["status"] for e in poked["events"]]
    job = await invopop.call("GET", f"/transform/v1/jobs/{job_id}", wait="20")
    assert job["status"] == "OK"
    assert (
        await refused(invopop, "POST", "/transform/v1/jobs/intents", {"id": intent["id"], "job_id": job_id, "status": "POKE"})
    ).status in (404, 409)


async def test_a_step_that_nobody_serves_says_so_in_its_intent(invopop: Invopop) -> None:
    action = f"acme.x{uuid.uuid4().hex[:8]}"
    job = await invopop.call(
        "POST", "/transform/v1/jobs", {"workflow_id": await flow(invopop, step("Lonely", action)), "data": INVOICE}
    )

    async def told() -> Any:
        found = await invopop.call("GET", f"/transform/v1/jobs/{job['id']}")
        events = found["intents"][-1]["events"] if found["intents"] else []
        return (found, events[-1]) if events and events[-1].get("code") == "no_worker" else None

    found, event = await eventually(told, 20)
    assert event["status"] == found["status"] == "QUEUED" and event["message"] == f"No worker serves the action {action}."
    assert found["intents"][-1]["completed"] is False and "completed_at" not in found
    await invopop.call("POST", f"/v1/jobs/{job['id']}/cancel", {})


async def test_attachments_are_read_without_a_header(invopop: Invopop) -> None:
    entry = await invopop.call("POST", "/silo/v1/entries", {"data": INVOICE})
    made = await invopop.call(
        "POST", f"/silo/v1/entries/{entry['id']}/files", {"name": "a.txt", "data": base64.b64encode(b"hello").decode()}
    )
    job = await invopop.run(await flow(invopop, step("Only")), silo_entry_id=entry["id"])
    url = job["attachments"][0]["url"]
    assert url.startswith(f"{invopop.base}/silo/v1/links/")
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        assert answer.status == 200 and await answer.read() == b"hello" and answer.content_type == "text/plain"
    assert made["url"] != url, "each answer has addresses of its own"


async def test_the_webhook_step(invopop: Invopop) -> None:
    answers = [(500, {"code": "busy", "message": "later", "retry_in": 0.2}), (200, None)]
    heard: list[tuple[dict[str, Any], str]] = []

    async def hook(request: web.Request) -> web.Response:
        heard.append((await request.json(), request.headers["authorization"]))
        status, body = answers[min(len(heard), len(answers)) - 1]
        return web.json_response(body, status=status)

    app = web.Application()
    app.router.add_post("/hook", hook)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    try:
        await invopop.call("PUT", "/v1/secrets/shop-token", {"value": "secret"})
        tell = step("Tell", "webhook", config={"url": url, "event": "done", "bearer_token": "secret:shop-token"})
        broken = step("Check", "test.outcome", config={"fail": "KO"})
        job = await invopop.run(await flow(invopop, tell), data=INVOICE, args={"shop": "1"}, key=f"w-{uuid.uuid4()}")
        assert [e["status"] for e in job["intents"][0]["events"]] == ["RUN", "QUEUED", "OK"], job["intents"]
        payload, token = heard[-1]
        assert token == "Bearer secret" and payload == {
            "id": payload["id"], "event": "done", "transform_job_id": job["id"], "silo_entry_id": job["silo_entry_id"], "owner_id": "default",
            "key": job["key"], "args": {"shop": "1"}, "faults": [],
        }  # fmt: skip
        await invopop.run(await flow(invopop, broken, rescue=[tell]), data=INVOICE)
        assert "asked_to_fail" in heard[-1][0]["faults"][0]["message"], "the error flow gets the reason"
        internal = step("Tell", "webhook", config={"url": "https://169.254.169.254/latest"})
        with pytest.raises(InvopopError, match=r"422 .*169\.254\.169\.254 is an internal address"):
            await flow(invopop, internal)
    finally:
        await runner.cleanup()
