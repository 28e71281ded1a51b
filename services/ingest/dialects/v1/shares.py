"""Links that were shared: the list and their end, under /v1. `POST /api/file/share/{file_id}` makes them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from sqlalchemy import Connection

from services.ingest.adapters.store import shares
from services.ingest.adapters.store.audit import add_audit
from services.ingest.core.job_view import text as shown_time
from services.ingest.http.answers.accounts import SharedLinks
from services.ingest.http.dependencies import GatewayDep, Sharer
from services.ingest.http.errors import ApiError
from shared import clock
from shared.web.openapi import answered

router = APIRouter(prefix="/v1/shares", tags=["Shares"], max_body_size=64 << 10)
MOST = 1000


@router.get("", summary="Shared links", operation_id="listShares", responses=answered(SharedLinks))
async def list_shares(gateway: GatewayDep, who: Sharer) -> dict[str, Any]:
    """The tenant's links that still hold, at most 1,000, those that end last first. A link itself is shown once, when it is made."""
    rows = await gateway.store.read(lambda c: shares.list_links(c, who.tenant_id, clock.unix(), MOST))
    return {
        "result": [
            {"id": r.token_hash, "file_id": r.file_id, "created_by": r.created_by, "created_at": _at(r.created_at), "expires_at": _at(r.expires_at)}
            for r in rows
        ]
    }  # fmt: skip


def _at(unix: float | None) -> str | None:
    return None if unix is None else shown_time(datetime.fromtimestamp(unix, UTC))


@router.delete("/{share_id}", status_code=204, summary="Revoke a shared link", operation_id="revokeShare")
async def revoke_share(share_id: str, gateway: GatewayDep, who: Sharer) -> None:
    """Takes effect at once, on every replica; downloads through the link end within five seconds."""

    def revoke(c: Connection) -> bool:
        file_id = shares.revoke_link(c, share_id, who.tenant_id)
        if file_id is None:
            return False
        add_audit(c, who, clock.unix(), "share.revoke", file_id)
        return True

    if not await gateway.store.transact(revoke):
        raise ApiError(404, f"Link with ID {share_id[:80]} does not exist.")
