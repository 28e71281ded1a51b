"""Approvals: what waits for a person, under /v1."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from sqlalchemy import Connection

from contracts import JobStage
from services.ingest.adapters.store.operations import rows_of
from services.ingest.core.approvals import approval_steps, may_wait, waiting_in
from services.ingest.http.answers.letters import Approvals
from services.ingest.http.dependencies import GatewayDep, Reader
from shared.database.statements import Statement
from shared.web.middleware import trace_of
from shared.web.openapi import answered

router = APIRouter(prefix="/v1", tags=["Operations"], max_body_size=64 << 10)
OPEN = [stage.value for stage in JobStage if not stage.terminal]
AT_ONCE = 20
"""Jobs that the orchestrator is asked about at a time."""
_WORKFLOWS = "SELECT body FROM workflow_view WHERE body LIKE '%approval%'"
_JOBS = Statement(
    "SELECT body FROM job_view WHERE tenant_id = :t AND stage IN (SELECT value FROM [stages]) AND workflow IN (SELECT value FROM [names]) "
    "ORDER BY created_at, id LIMIT :n"
)
LOOKED_AT = 2000
"""Open jobs, the oldest first, that one list looks through."""


@router.get("/approvals", summary="Approvals that are waited for", operation_id="listApprovals", responses=answered(Approvals))
async def approvals(
    request: Request, gateway: GatewayDep, who: Reader, limit: Annotated[int, Query(ge=1, le=200)] = 100
) -> dict[str, Any]:
    """Steps of the tenant's jobs that wait for a person, the longest wait first, each with `since` and, where it has one, its end `due_at`.

    The orchestrator answers for up to `limit` jobs, the oldest first. `more` says that further jobs may wait, `unknown` are those about which it did not answer.
    Answer one with `POST /v1/jobs/{job_id}/poke`.
    """
    jobs = await gateway.store.read(lambda c: _candidates(c, who.tenant_id))
    places = asyncio.Semaphore(AT_ONCE)

    async def ask(job: dict[str, Any]) -> dict[str, Any]:
        async with places:
            return await gateway.explanations.explain(job, who.tenancy, trace_of(request))

    asked = jobs[:limit]
    answers = await asyncio.gather(*map(ask, asked))
    found = [one for job, answer in zip(asked, answers, strict=True) for one in waiting_in(job, answer)]
    silent = [job["id"] for job, answer in zip(asked, answers, strict=True) if answer["code"] == "orchestrator_silent"]
    found.sort(key=lambda one: one["since"] or "")
    return {"result": found, "unknown": silent, "more": len(jobs) > limit}


def _candidates(connection: Connection, tenant: str) -> list[dict[str, Any]]:
    steps = approval_steps(rows_of(connection, _WORKFLOWS, {}))
    if not steps:
        return []
    values = {"t": tenant, "stages": json.dumps(OPEN), "names": json.dumps(sorted(steps)), "n": LOOKED_AT}
    jobs = [json.loads(body) for (body,) in _JOBS.rows(connection, values)]
    return [job for job in jobs if may_wait(job, steps)]
