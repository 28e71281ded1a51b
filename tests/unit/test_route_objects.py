"""A record that names another tenant's object gives nothing away: every route on a job or a file is tried, made from the table of routes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from sqlalchemy import text

from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store import read_model as rm
from services.ingest.core import file_view, job_view
from services.ingest.dialects.routes import ROUTERS
from shared import clock
from shared.objects.object_store import Objects
from tests.gateway_app import gateway_app

SECRET = b"the other tenant's document"
NAMED = {
    "job_id": "job-1",
    "file_id": "file-1",
    "number": "1",
    "result_id": "1",
    "token": "x",
    "session_id": "s-1",
    "entry_id": "e-1",
}
ROUTES = sorted(
    {
        (method, route.path)
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in route.methods
    }
    & {
        (method, route.path)
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute) and re.search(r"{(job_id|file_id|entry_id|token)", route.path)
        for method in ("GET", "HEAD")
    }
)


OTHER_ROWS = (
    "DELETE FROM silo_entry",
    "INSERT INTO silo_entry (tenant_id, id, key, created_at, body) VALUES ('t1', 'e-1', NULL, 1.0, '{\"id\": \"e-1\", \"states\": []}')",
    "DELETE FROM silo_file",
    "INSERT INTO silo_file (tenant_id, id, entry_id, body, blob) VALUES ('t1', 'file-1', 'e-1', '{\"name\": \"n\"}', :b)",
    "DELETE FROM conversion_job",
    "INSERT INTO conversion_job (id, tenant_id, workflow, profile, name, options, created_at, started_at, job_id) "
    "VALUES ('job-1', 't1', 'w', 'p', '', '[]', 1.0, 1.0, 'job-1')",
)


@pytest.fixture
async def reached(tmp_path: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Gateway]]:
    """A gateway on SQLite and files, and a client with a key of the tenant `t1`."""
    async with gateway_app(tmp_path) as app, app.http(**{"x-api-key": await app.key("admin", "t1")}) as client:
        yield client, app.gateway


async def enter(gateway: Gateway, blob: str) -> None:
    """A job with a file, an entry and a shared link of `t1`, all of which name `blob`."""
    at = clock.now()
    output = {
        "file_name": "out.pdf",
        "blob_name": blob,
        "size": len(SECRET),
        "sha256": "ab" * 32,
        "content_type": "application/pdf",
    }
    blobs = dict.fromkeys(("blob_name", "text_blob", "result_blob", "index_blob"), blob)
    file = {
        **file_view.new_file("file-1", "t1", at),
        **blobs,
        "job_id": "job-1",
        "file_name": "a.pdf",
        "status": "finished",
        "outputs": [output],
    }
    job = {**job_view.new_job("job-1", "t1", at), "stage": "completed", "workflow": "w@1", "outputs": [output]}

    def work(c: Any) -> None:
        rm.save_jobs(c, [(1.0, job)], {})
        rm.save_files(c, [(1.0, file)])
        for statement in OTHER_ROWS:
            c.execute(text(statement), {"b": blob})

    await gateway.store.transact(work)


async def ask(client: httpx.AsyncClient, method: str, path: str) -> httpx.Response:
    target = re.sub(r"{(\w+)[^}]*}", lambda m: NAMED.get(m[1], "x"), path)
    return await client.request(method, target, timeout=20)


@pytest.mark.parametrize("blob", ["t2/ab/" + "cd" * 32, "t1/../t2/ab/" + "cd" * 32])
async def test_no_route_gives_another_tenants_object(reached: tuple[httpx.AsyncClient, Gateway], blob: str) -> None:
    client, gateway = reached
    await gateway.objects.of("t2").put_named("t2/ab/" + "cd" * 32, SECRET)
    await enter(gateway, blob)
    for method, path in ROUTES:
        if path.endswith("/why"):
            continue  # asks the orchestrator
        answer = await ask(client, method, path)
        assert SECRET not in answer.content, (method, path)
        assert answer.status_code < 500 or answer.status_code == 501, (method, path, answer.text)


async def test_the_same_routes_give_what_is_the_tenants(reached: tuple[httpx.AsyncClient, Gateway]) -> None:
    client, gateway = reached
    stored = await gateway.objects.of("t1").put_object(SECRET)
    await enter(gateway, stored.name)
    given = {
        path
        for method, path in ROUTES
        if method == "GET" and not path.endswith("/why") and SECRET in (await ask(client, "GET", path)).content
    }
    assert len(given) >= 8, given
    assert isinstance(gateway.objects, Objects)
