"""The audit and its verification, under /v1."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query
from sqlalchemy import text

from services.ingest.adapters.store.audit_verification import ChainVerifier
from services.ingest.http.answers.operations import AuditPage, AuditVerification
from services.ingest.http.dependencies import PLATFORM_TENANT, GatewayDep, Operator
from services.ingest.http.errors import ApiError
from shared.web.openapi import answered

router = APIRouter(prefix="/v1", tags=["Operations"], max_body_size=64 << 10)


@router.get("/audit", summary="Audit", operation_id="getAudit", responses=answered(AuditPage))
async def audit(
    gateway: GatewayDep,
    who: Operator,
    before: Annotated[int | None, Query(ge=1, le=1 << 62)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> dict[str, Any]:
    """Commands and acts of the tenant's users, sign-ins, refusals, shared links and downloads by people, newest first.

    `count` is there when a line stands for several. `next` is the cursor of the next page. Requests of strangers are in the
    audit of the platform.
    """
    query = "SELECT id, body FROM audit WHERE tenant_id = :t AND id < :b ORDER BY id DESC LIMIT :n"
    values = {"t": who.tenant_id, "b": before or 1 << 62, "n": limit}
    rows = await gateway.store.read(lambda c: c.execute(text(query), values).all())
    return {"result": [json.loads(r.body) for r in rows], "next": rows[-1].id if len(rows) == limit else None}


@router.get("/audit/verification", summary="Verify the audit", operation_id="verifyAudit", responses=answered(AuditVerification))
async def verification(
    gateway: GatewayDep,
    who: Operator,
    head: Annotated[str | None, Query(pattern=r"^\d{1,18}:[0-9a-f]{64}$", description="A head that was noted before")] = None,
) -> dict[str, Any]:
    """Recomputes the chain of hashes over the lines of all tenants. For operators of the platform.

    `broken` is null, or names the first broken line. Note `head` outside: who can change the database could compute the chain
    again, and a head that was noted shows that.
    """
    if who.tenant_id != PLATFORM_TENANT:
        raise ApiError(403, "Only operators of the platform verify the audit: it has the lines of all tenants.")
    seq, _, digest = (head or "").partition(":")
    found = await ChainVerifier(gateway.store, (int(seq), digest) if head else None).verify()
    fault = found.fault
    return {
        "rows": found.rows, "unchained": found.unchained, "first": found.first_seq, "head": f"{found.head_seq}:{found.head_hash}",
        "broken": None if fault is None else {"seq": fault.seq, "id": fault.row_id, "reason": fault.reason},
    }  # fmt: skip
