"""One call erases a tenant: its jobs, what runs, sessions, entries, accounts, endpoints and every object. Outputs go with their job."""

from __future__ import annotations

import sqlite3
import uuid
from pathlib import Path
from typing import Any

import pytest

from cli.client import Client
from tests.conftest import SAMPLES, Pipeline
from tests.e2e.conversion_client import Conversion
from tests.e2e.invopop_client import Invopop
from tests.e2e.test_accounts import new_tenant
from tests.e2e.test_erase import holding, residue
from tests.e2e.test_gateway import ended, form, raw, session_with
from tests.e2e.test_uploads import begin, bring
from tests.eventually import eventually

pytestmark = pytest.mark.kafka
KEPT = {"audit", "tenant_erasure", "seen", "outbox_batch", "decision", "erased"}
"""Tables of the services that may name an erased tenant: the audit, the erasure itself, and ids."""
STEERING = {"workflow_claim", "workflow", "share", "flight", "control", "schedule", "backlog_view", "rate_window"}
"""Tables that may name it for steering: no content of documents."""
BUILT_IN = {
    "documents": "invoice-acme-2026-0042.pdf", "documents-merged": "invoice-acme-2026-0042.pdf",
    "documents-decomposed": "invoice-acme-2026-0042.pdf", "convert-to-pdf": "letter-offer.docx", "dossier": "letter-offer.docx",
    "archive-as-tiff": "invoice-acme-2026-0042.pdf", "archive-pdfa2": "invoice-acme-2026-0042.pdf",
    "convert-to-xml": "invoice-acme-2026-0042.pdf", "extract-xml": "invoice-acme-2026-0042.pdf", "noop-five": "letter-offer.docx",
}  # fmt: skip


def objects_of(pipeline: Pipeline, tenant: str) -> list[str]:
    """Every object of a tenant in the local store."""
    folder = Path(pipeline.data_dir) / "objects"
    return [str(p) for part in (tenant, f"incoming/{tenant}") for p in (folder / part).rglob("*") if p.is_file()]


def naming(pipeline: Pipeline, tenant: str) -> set[str]:
    """Tables of all services with a row that names the tenant."""
    found = set()
    for path in pipeline.data_dir.glob("*.db"):
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'search%'"):
            rows = connection.execute(f"SELECT * FROM {table}")
            if any(tenant in str(value) for row in rows for value in row):
                found.add(table)
        connection.close()
    return found


async def test_nothing_of_a_built_in_workflow_is_left_in_the_store(client: Client, pipeline: Pipeline) -> None:
    tenant, admin, producer = await new_tenant(client)
    await producer.http.close()
    async with admin:
        jobs = []
        for workflow, sample in BUILT_IN.items():
            session = await session_with(admin, sample)
            made = await admin.call("POST", "/api/job/create", json={"session_id": session, "workflow": workflow})
            jobs.append(made["job_id"])
        stages = {workflow: (await ended(admin, job))["stage"] for workflow, job in zip(BUILT_IN, jobs, strict=True)}
        assert set(stages.values()) <= {"completed", "failed"} and stages["documents"] == "completed", stages
        assert len(objects_of(pipeline, tenant)) > len(BUILT_IN)
        for job in jobs:
            await admin.call("DELETE", f"/v1/jobs/{job}")

        async def empty() -> bool:
            return not objects_of(pipeline, tenant)

        try:
            await eventually(empty, 30, 0.5)
        except AssertionError:
            raise AssertionError(f"left: {objects_of(pipeline, tenant)} {stages}") from None


async def fill(admin: Client, mark: str) -> str:
    """Make content in every dialect; returns the id of a job that waits for ever."""
    session = await session_with(admin)
    status, body, _ = await raw(admin, "POST", "/api/file/uploadfile", data=form(session, f"{mark}.txt", f"open {mark}".encode()))
    assert status == 200, body
    half = await begin(admin, session, 5000)
    await bring(admin, half, 0, f"half a document {mark}".encode())
    done = await session_with(admin)
    await raw(admin, "POST", "/api/file/uploadfile", data=form(done, f"done-{mark}.txt", f"done {mark}".encode()))
    job = (await admin.call("POST", "/api/job/create", json={"session_id": done, "metadata": {"mark": mark}}))["job_id"]
    finished = await ended(admin, job)
    await admin.call("POST", f"/api/file/share/{finished['files'][0]['id']}")
    async with Invopop(admin.target.url, admin.target.key) as invopop:
        entry = await invopop.call("POST", "/silo/v1/entries", {"key": mark, "data": {"mark": mark}})
        about = {"name": f"{mark}.txt", "data": "aGVsbG8="}
        await invopop.call("PUT", f"/silo/v1/entries/{entry['id']}/files/f-{mark[:8]}", about)
    async with Conversion(admin.target.url, **{"x-api-key": admin.target.key}) as conversion:
        creating = await conversion.create(("META.TITLE", mark), name=mark)
        await conversion.add(
            creating, f"{mark}.pdf", (SAMPLES / "invoice-acme-2026-0042.pdf").read_bytes(), ("DOC.PASSWORD", mark)
        )
    await admin.call("PUT", "/v1/retention", json={"days": 3000})
    await admin.call("PUT", f"/v1/queries/{mark}", json={"text": mark})
    user = {"password": "a long enough password", "role": "reader"}
    await admin.call("PUT", f"/v1/users/u-{mark}", json=user)
    await admin.call(
        "PUT", f"/v1/schedules/s-{mark[:8]}", json={"cron": "0 0 1 1 *", "workflow": "noop-five", "metadata": {"mark": mark}}
    )
    return str((await admin.call("POST", "/v1/jobs", json={"workflow": "test-approval", "metadata": {"mark": mark}}))["job_id"])


@pytest.mark.slow
async def test_a_tenant_is_erased_as_a_whole(client: Client, pipeline: Pipeline) -> None:
    mark = uuid.uuid4().hex
    tenant, admin, producer = await new_tenant(client)
    await producer.http.close()
    async with admin:
        waiting = await fill(admin, mark)
        hook = {"url": "http://127.0.0.1:9/nobody", "events": ["job.*"], "description": mark}
        await admin.call("POST", "/v1/webhooks", notifier=True, json=hook)
        assert (await raw(admin, "DELETE", f"/v1/tenants/{tenant}"))[0] == 403, "for admins of the platform alone"
        assert (await raw(client, "DELETE", "/v1/tenants/default"))[0] == 409
        assert (await raw(client, "GET", f"/v1/tenants/{tenant}/erasure"))[0] == 404
        status, body, _ = await raw(client, "DELETE", f"/v1/tenants/{tenant}")
        assert status == 202 and body["state"] == "running" and body["left"]["jobs"] >= 2 and body["left"]["objects"] >= 4, body
        assert (await raw(admin, "GET", f"/v1/jobs/{waiting}"))[0] == 401, "shut out at once"
    assert (await raw(client, "POST", "/v1/keys", json={"user_name": "x", "tenant_id": tenant}))[0] == 409

    async def done() -> Any:
        shown = (await raw(client, "GET", f"/v1/tenants/{tenant}/erasure"))[1]
        return shown if shown["state"] == "done" else None

    shown = await eventually(done, 60, 0.5)
    assert set(shown["left"].values()) == {0} and shown["ended_at"], shown

    async def clean() -> bool:
        return not residue(pipeline, mark) and naming(pipeline, tenant) <= KEPT | STEERING

    try:
        await eventually(clean, 20, 0.5)
    except AssertionError:
        raise AssertionError(f"left: {residue(pipeline, mark)} {naming(pipeline, tenant) - KEPT - STEERING}") from None
    logs = [path for path in (pipeline.data_dir / "logs").glob("*.log") if mark in path.read_text(errors="replace")]
    assert not logs, "names of files and metadata are in no log"
    assert not objects_of(pipeline, tenant) and not holding(Path(pipeline.data_dir) / "objects", mark)
    lines = (await client.call("GET", "/v1/audit", params={"limit": 200}))["result"]
    assert {"tenant.erase", "tenant.erased"} <= {line["verb"] for line in lines if line["subject"] == tenant}
    assert mark not in str(lines)
    await client.call("PUT", f"/v1/tenants/{tenant}", json={"name": "again"})
    assert (await raw(client, "POST", "/v1/keys", json={"user_name": "x", "tenant_id": tenant}))[0] == 201
