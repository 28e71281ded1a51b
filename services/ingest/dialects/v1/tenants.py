"""Erasure of whole tenants, for admins of the platform."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from sqlalchemy import Connection

from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store import tenant_erasures
from services.ingest.adapters.store.audit import add_audit
from services.ingest.core.job_view import text as shown_time
from services.ingest.dialects.v1.accounts import TenantId
from services.ingest.http.answers.accounts import TenantErasure
from services.ingest.http.dependencies import PLATFORM_TENANT, Admin, GatewayDep
from services.ingest.http.errors import ApiError
from shared.processing.unit_of_work import Unit
from shared.web.api_keys import Principal
from shared.web.openapi import answered

router = APIRouter(prefix="/v1", tags=["Accounts"], max_body_size=64 << 10)


@router.delete(
    "/tenants/{tenant_id}",
    status_code=202,
    summary="Erase a tenant",
    operation_id="eraseTenant",
    responses=answered(TenantErasure, 202),
)
async def erase(tenant_id: TenantId, gateway: GatewayDep, who: Admin) -> dict[str, Any]:
    """Shuts the tenant out at once. Then cancels its jobs, and erases jobs, sessions, entries, accounts, endpoints and objects.

    For admins of the platform. The answer, and that of `GET /v1/tenants/{tenant_id}/erasure`, says what is left. A repeat goes on.
    409 for the platform's own tenant.
    """
    _platform(who)
    if tenant_id == PLATFORM_TENANT:
        raise ApiError(409, "The platform's own tenant cannot be erased.", code="platform_tenant")

    def begin(unit: Unit) -> None:
        tenant_erasures.begin(unit, tenant_id, who.tenancy.user_name)
        add_audit(unit.connection, who, unit.now, "tenant.erase", tenant_id, PLATFORM_TENANT)

    await gateway.processor.run_unit(begin)
    gateway.keyring.clear_cache()
    gateway.tenant_erasure_wake.set()
    return await _shown(gateway, tenant_id)


@router.get(
    "/tenants/{tenant_id}/erasure",
    summary="The erasure of a tenant",
    operation_id="getTenantErasure",
    responses=answered(TenantErasure),
)
async def erasure(tenant_id: TenantId, gateway: GatewayDep, who: Admin) -> dict[str, Any]:
    """`state` is `running` or `done`; `left` counts what is still there. 404 for a tenant that is not erased."""
    _platform(who)
    return await _shown(gateway, tenant_id)


async def _shown(gateway: Gateway, tenant: str) -> dict[str, Any]:
    def look(connection: Connection) -> Any:
        return tenant_erasures.erasure_of(connection, tenant), tenant_erasures.left(connection, tenant)

    row, left = await gateway.store.read(look)
    if row is None:
        raise ApiError(404, f"Tenant {tenant} is not being erased.")
    objects = len(await gateway.object_names(tenant, 1000))
    return {
        "tenant_id": tenant, "state": row.state, "started_at": _time(row.started_at),
        "ended_at": _time(row.ended_at), "left": {**left, "objects": objects},
    }  # fmt: skip


def _time(at: float | None) -> str | None:
    return shown_time(datetime.fromtimestamp(at, UTC)) if at is not None else None


def _platform(who: Principal) -> None:
    if who.tenant_id != PLATFORM_TENANT:
        raise ApiError(403, "Only admins of the platform erase tenants.")
