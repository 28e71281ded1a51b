"""Actions that a tenant's workflows may name. For admins of the platform."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path

from services.ingest.adapters.store import workflow_quotas
from services.ingest.adapters.store.audit import add_audit
from services.ingest.http.answers.accounts import AllowedAction, TenantActions
from services.ingest.http.dependencies import PLATFORM_TENANT, Admin, GatewayDep
from services.ingest.http.errors import ApiError
from shared import clock
from shared.web.api_keys import Principal
from shared.web.openapi import answered

router = APIRouter(prefix="/v1/tenants", tags=["Accounts"], max_body_size=64 << 10)
TenantId = Annotated[str, Path(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Action = Annotated[str, Path(min_length=1, max_length=100, pattern=r"^[a-z][a-z0-9_]*(\.[a-z0-9_]+)*$")]


def _platform(who: Principal) -> None:
    if who.tenant_id != PLATFORM_TENANT:
        raise ApiError(403, "Only admins of the platform administer tenants.")


@router.get(
    "/{tenant_id}/actions", summary="Actions of a tenant", operation_id="listTenantActions", responses=answered(TenantActions)
)
async def listed(tenant_id: TenantId, gateway: GatewayDep, who: Admin) -> dict[str, Any]:
    """Actions beside the built-in ones: those that the tenant introduced, and those that were allowed."""
    _platform(who)
    return {"result": await gateway.store.read(lambda c: workflow_quotas.actions_of(c, tenant_id))}


@router.put(
    "/{tenant_id}/actions/{action}", summary="Allow an action", operation_id="allowAction", responses=answered(AllowedAction)
)
async def allow(tenant_id: TenantId, action: Action, gateway: GatewayDep, who: Admin) -> dict[str, Any]:
    """The tenant's workflows may name it, and it takes no place in the tenant's quota."""
    _platform(who)

    def work(connection: Any) -> None:
        workflow_quotas.allow_action(connection, tenant_id, action, clock.unix())
        add_audit(connection, who, clock.unix(), "action.allow", action, tenant_id)

    await gateway.store.transact(work)
    return {"tenant_id": tenant_id, "action": action, "allowed": True}


@router.delete("/{tenant_id}/actions/{action}", status_code=204, summary="Take back an action", operation_id="forgetAction")
async def forget(tenant_id: TenantId, action: Action, gateway: GatewayDep, who: Admin) -> None:
    """Workflows that are published keep it. Its place in the quota is free again."""
    _platform(who)

    def work(connection: Any) -> bool:
        add_audit(connection, who, clock.unix(), "action.forget", action, tenant_id)
        return workflow_quotas.forget_action(connection, tenant_id, action)

    if not await gateway.store.transact(work):
        raise ApiError(404, f"Tenant {tenant_id} has no action {action} of its own.")
