"""A client of Invopop's dialect for tests with the gateway in their own process."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from services.ingest.adapters.store import read_model as rm
from services.ingest.core import file_view, job_view
from services.ingest.dialects.invopop import store
from shared import clock
from shared.web.key_format import key_hash
from tests.gateway_app import InProcess

ENVELOPE: dict[str, Any] = {
    "$schema": "https://gobl.org/draft-0/envelope", "head": {"dig": {"alg": "sha256", "val": "ab" * 32}, "tags": ["may"]},
    "doc": {"$schema": "https://gobl.org/draft-0/bill/invoice", "code": "42"},
}  # fmt: skip
STEP = {"id": str(uuid.uuid4()), "name": "Only", "action": "noop"}


@dataclass
class Caller:
    """A tenant's client: answers are parsed, and a status other than expected fails the test."""

    app: InProcess
    http: httpx.AsyncClient
    key: str

    async def call(self, method: str, path: str, body: Any = None, status: int = 200, **query: Any) -> Any:
        answer = await self.http.request(method, path, json=body, params=query)
        assert answer.status_code == status, (method, path, answer.status_code, answer.text)
        return answer.json() if answer.content else None

    async def faults(self, method: str, path: str, body: Any = None, **query: Any) -> dict[str, Any]:
        """Fields of a 422."""
        fields: dict[str, Any] = (await self.call(method, path, body, 422, **query))["fields"]
        return fields

    async def entry(self, **fields: Any) -> dict[str, Any]:
        made: dict[str, Any] = await self.call("POST", "/silo/v1/entries", fields)
        return made

    async def tenant(self) -> str:
        """The caller's tenant."""
        found = await self.app.rows("SELECT tenant_id FROM access_key WHERE key_hash = :h", h=key_hash(self.key))
        return str(found[0].tenant_id)


@asynccontextmanager
async def new_caller(app: InProcess) -> AsyncIterator[Caller]:
    """An admin of a new tenant."""
    key = await app.key(role="admin", tenant=f"t{uuid.uuid4().hex[:12]}")
    async with app.http(authorization=f"Bearer {key}") as http:
        yield Caller(app, http, key)


async def enter_job(invopop: Caller, job_id: str, key: str | None = None, **fields: Any) -> None:
    """A job in the read model, with an output; requests for jobs need the orchestrator."""
    tenant = await invopop.tenant()
    stored = await invopop.app.gateway.objects.of(tenant).put_object(b"made")
    output = {
        "file_name": "made.txt",
        "content_type": "text/plain",
        "size": 4,
        "sha256": stored.sha256,
        "blob_name": stored.name,
        "category": "format",
    }
    job = {**job_view.new_job(job_id, tenant, clock.now()), "workflow": "noop-five@1", "outputs": [output], **fields}
    file = {**file_view.new_file(f"f-{job_id}", tenant, clock.now()), "job_id": job_id, "outputs": [output]}

    def enter(c: Any) -> None:
        rm.save_jobs(c, [(1.0, job)], {})
        rm.save_files(c, [(1.0, file)])
        store.save_request(
            c, tenant, job_id, key, "x", {"workflow_id": "noop-five", "meta": {"n": 3, "s": "t"}, "key": key}, clock.unix()
        )

    await invopop.app.store.transact(enter)
