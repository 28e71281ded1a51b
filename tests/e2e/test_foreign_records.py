"""Every GET of both HTTP APIs, asked for a record of another tenant, answers 404; every list leaves such records out.

The routes come from the OpenAPI documents, so a new route is covered on the day it is made, or fails here until it has a record.
"""

from __future__ import annotations

import base64
import re
import uuid
from typing import Any

import pytest

from cli.client import Client
from shared import clock
from tests.e2e.conversion_client import Conversion
from tests.e2e.invopop_client import Invopop
from tests.e2e.test_accounts import new_tenant
from tests.e2e.test_conversion import SCAN
from tests.e2e.test_gateway import ended, raw, session_with
from tests.e2e.test_uploads import TUS, begin
from tests.http_documents import all_paths

pytestmark = pytest.mark.kafka
OPEN = {"/api/file/shared/{token}", "/silo/v1/links/{token}", "/v1/tasks/{token}/objects/{blob}"}
"""The token is the credential: whom it was given may read the file."""
READ_OTHERWISE = {"/events/stream"}
"""Streams, which have tests of their own (`test_consumers.py`)."""


async def records(client: Client) -> dict[str, dict[str, str]]:
    """Part of a path → name of a parameter → a record of the client's tenant. The longest part that fits a path counts."""
    mark = f"mine-{uuid.uuid4().hex}"
    session = await session_with(client, "letter-offer.docx")
    job_id = (await client.call("POST", "/api/job/create", json={"session_id": session}))["job_id"]
    file_id = (await ended(client, job_id))["files"][0]["id"]
    bulk = {"verb": "cancel", "filter": {"job_key": clock.new_root()}, "reason": "none"}
    bulk_id = (await client.call("POST", "/v1/bulk", json=bulk))["id"]
    upload = (await begin(client, await session_with(client), 5)).rpartition("/")[2]
    await client.call("PUT", f"/v1/queries/{mark}", json={"job_key": mark})
    step = {"name": "call", "action": "http.webhook", "config": {"url": f"https://example.com/secret-{mark}"}}
    definition = {"name": mark, "version": 1, "description": f"about-{mark}", "steps": [step]}
    await client.call("POST", f"/v1/workflows/{mark}/publish", json=definition)
    await client.call("PUT", f"/v1/workflows/{mark}/draft", json={**definition, "version": 2})
    await client.call("PUT", f"/v1/tags/{mark}", json={"description": mark})
    # For no event: deliveries of other tests' jobs would stay.
    endpoint = {"url": "https://example.com/", "events": ["session.expired"], "description": mark}
    hook = await client.call("POST", "/v1/webhooks", notifier=True, json=endpoint)
    converted = await conversion(client)
    transformed, entry, version = await invopop(client, mark)
    return {
        "/": {"session_id": session, "job_id": job_id, "file_id": file_id, "number": "1", "bulk_id": bulk_id, "upload_id": upload, "name": mark,
              "endpoint_id": hook["id"], "tag_id": mark, "metadata_id": mark, "company_id": "default",
              "tenant_id": "default", "letter_id": "job.commands.job_orchestrator.dlq:0:999999"},
        "/conversion/": {"job_id": converted, "result_id": "1"},
        "/silo/": {"entry_id": entry, "file_id": f"f-{mark}", "key": mark, "version": version},
        "/transform/v1/": {"job_id": transformed, "key": mark, "flow_id": mark},
    }  # fmt: skip


async def conversion(client: Client) -> str:
    async with Conversion(client.target.url, **{"x-api-key": client.target.key}) as made:
        job_id = await made.create()
        await made.add(job_id, "a.png", SCAN)
        await made.start(job_id)
    return job_id


async def invopop(client: Client, mark: str) -> tuple[str, str, str]:
    """A job, an entry and the version of its document, with the mark as their keys; a workflow and a file with the mark in their ids."""
    async with Invopop(client.target.url, client.target.key) as made:
        config = {"url": f"https://example.com/secret-{mark}"}
        steps = [{"id": "a", "name": "A", "action": "webhook", "config": config}]
        await made.call("PUT", f"/transform/v1/workflows/{mark}", {"name": mark, "steps": steps})
        entry = str(uuid.uuid4())
        version = (await made.call("PUT", f"/silo/v1/entries/{entry}", {"key": mark, "data": {"mark": mark}}))["version"]
        file = {"name": "a.txt", "data": base64.b64encode(mark.encode()).decode()}
        await made.call("PUT", f"/silo/v1/entries/{entry}/files/f-{mark}", file)
        job: str = (await made.run("noop-five", data={"mark": mark}, key=mark))["id"]
        return job, entry, version


def filled(path: str, known: dict[str, dict[str, str]]) -> str:
    """The path with a record for each parameter."""
    values: dict[str, str] = {}
    for part in sorted(known, key=len):
        values |= known[part] if path.startswith(part) else {}
    missing = set(re.findall(r"{(\w+)}", path)) - values.keys()
    assert not missing, f"{path}: this test makes no record for {missing}; add one"
    return re.sub(r"{(\w+)}", lambda match: values[match[1]], path)


async def reads(client: Client) -> list[tuple[str, bool]]:
    """Paths with a GET, and whether the notifier answers them."""
    found = []
    of_notifier = (await client.call("GET", "/openapi.json", notifier=True))["paths"]
    for notifier, paths in ((False, await all_paths(client)), (True, of_notifier)):
        found += [(path, notifier) for path, methods in paths.items() if "get" in methods and path not in OPEN | READ_OTHERWISE]
    return found


async def asked(client: Client, path: str, notifier: bool) -> tuple[int, Any]:
    base = client.target.notifier_url if notifier else client.target.url
    headers = {"authorization": f"Bearer {client.target.key}"}
    async with client.http.get(base + path, headers=headers) as answer:
        return answer.status, (await answer.read()).decode(errors="replace")


async def test_every_read_of_another_tenants_record_is_404(client: Client) -> None:
    known = await records(client)
    values = {v for part in known.values() for v in part.values() if len(v) > 12}
    _, admin, producer = await new_tenant(client)
    faults: list[str] = []
    count = 0
    async with admin, producer:
        for path, notifier in await reads(client):
            target = filled(path, known)
            own, _ = await asked(client, target, notifier)
            status, body = await asked(admin, target, notifier)
            count += 1
            if target == path:
                # A list: what the other tenant's own records are does not matter here.
                if status not in (200, 400, 403, 404) or any(value in body for value in values - shared(path, known)):
                    faults.append(f"list {path}: {status} {body[:300]}")
            elif status != (403 if path in OF_THE_PLATFORM else 404) or (own == 404 and path not in ABSENT):
                faults.append(f"{path}: {status} for the other tenant, {own} for its own")
        status, _, _ = await raw(admin, "HEAD", f"/v1/uploads/{known['/']['upload_id']}", headers=TUS)
        assert status == 404
    assert not faults and count >= 55, (count, faults)


OF_THE_PLATFORM = {"/v1/tenants/{tenant_id}/actions", "/v1/tenants/{tenant_id}/erasure", "/v1/letters/{letter_id}"}
"""Paths that admins of the platform alone may ask: others get 403 for every tenant, also for one that does not exist."""
ABSENT = {
    "/v1/files/{file_id}/outputs/{number}", "/v1/jobs/{job_id}/outputs/{number}", "/api/metadata/detail/{metadata_id}",
    "/v1/files/{file_id}/result", "/v1/tenants/{tenant_id}/erasure", "/v1/letters/{letter_id}",
}  # fmt: skip
"""Paths of which the client has no record either, in this test."""


def shared(path: str, known: dict[str, dict[str, str]]) -> set[str]:
    """What a list may name: the platform's workflows can be run by all tenants, so their names are known."""
    return {known["/"]["name"]} if path in ("/v1/workflows", "/conversion/v1.0/rest/workflows") else set()


async def test_a_workflows_configuration_is_its_tenants_alone(client: Client) -> None:
    known = await records(client)
    name = known["/"]["name"]
    _, admin, producer = await new_tenant(client)
    async with admin, producer:
        assert f"secret-{name}" in (await asked(client, f"/v1/workflows/{name}", False))[1]
        for path, notifier in await reads(client):
            _, body = await asked(admin, filled(path, known), notifier)
            assert f"secret-{name}" not in body, path
        built_in = await admin.call("GET", "/v1/workflows/documents")
        assert built_in["definition"]["steps"] and built_in["owner"] == "*", "those of the release are everybody's to read"
        listed = {w["name"] for w in (await admin.call("GET", "/v1/workflows"))["result"]}
        assert name in listed and "documents" in listed, "the platform's can be run by all, so all know their names"
        job = await producer.call("POST", "/v1/jobs", json={"workflow": "noop-five"})
        assert (await ended(producer, job["job_id"]))["stage"] == "completed"
        # What one tenant has published in Invopop's dialect is not the platform's to read either.
        async with Invopop(client.target.url, admin.target.key) as other:
            flow = str(uuid.uuid4())
            secret = {"url": f"https://example.com/other-{flow}"}
            await other.call(
                "PUT",
                f"/transform/v1/workflows/{flow}",
                {"name": "x", "steps": [{"id": "a", "name": "A", "action": "webhook", "config": secret}]},
            )
        for path in ("/v1/workflows", "/transform/v1/workflows?limit=100", f"/transform/v1/workflows/{flow}"):
            assert f"other-{flow}" not in (await asked(client, path, False))[1]
