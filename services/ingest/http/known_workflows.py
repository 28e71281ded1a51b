"""Whether a job's workflow is published, judged before a command is sent. The orchestrator judges again: it is the authority."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store.operations import LIVE, rows_of
from services.ingest.core.nearest_names import unknown_workflow
from services.ingest.core.workflow_readers import PRIVATE, may_run
from services.ingest.http.dependencies import PLATFORM_TENANT
from services.ingest.http.errors import ApiError
from shared.web.api_keys import Principal

PATIENCE_S = 1.0
"""How long a request waits for a workflow that was published a moment ago and is not read yet."""
_NAMED = f"SELECT body FROM workflow_view WHERE name = :n AND (version = :v OR :v = 0) AND {LIVE}"
_ALL = f"SELECT body FROM workflow_view WHERE name NOT LIKE :private AND {LIVE} ORDER BY name, version"


async def require_workflow(gateway: Gateway, who: Principal, name: str, version: int | None, job_id: str | None = None) -> None:
    """Raises 400 with the nearest names when the tenant has no such workflow, or no such version.

    `job_id` is that of the job which a repeat of the request would name. Where it is there, the workflow was known then.
    """
    place = (who.tenant_id, name, version)
    if place in gateway.known_workflows:
        return

    def look(connection: Connection) -> bool | None:
        # No version is as large as a number that a request may hold, and a database would refuse to compare it.
        rows = rows_of(connection, _NAMED, {"n": name, "v": version or 0}) if (version or 0) < 1 << 31 else []
        return True if any(may_run(row, who.tenant_id, PLATFORM_TENANT) for row in rows) else None

    if await gateway.store.look_up(look) is None:
        known = await runnable_workflows(gateway, who)
        # Without any workflow this gateway has only begun to read: the orchestrator decides.
        if not known or (job_id is not None and await gateway.record("job_view", job_id, who.tenant_id) is not None):
            return
        if await gateway.decisions.wait_until(look, PATIENCE_S) is None:
            field, reason = unknown_workflow(name, version, known)
            raise ApiError(400, f"{field}: {reason}", field, code="unknown_workflow")
    gateway.known_workflows[place] = True


async def runnable_workflows(gateway: Gateway, who: Principal) -> dict[str, list[int]]:
    """Names of the workflows that the tenant may run, each with its versions."""
    rows: list[dict[str, Any]] = await gateway.store.read(lambda c: rows_of(c, _ALL, {"private": f"{PRIVATE}%"}))
    found: dict[str, list[int]] = {}
    for row in rows:
        if may_run(row, who.tenant_id, PLATFORM_TENANT):
            found.setdefault(row["name"], []).append(row["version"])
    return found
