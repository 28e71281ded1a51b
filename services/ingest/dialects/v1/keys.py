"""Keys and signing applications, under /v1. Admins act for their own tenant; admins of the platform act for all."""

from __future__ import annotations

import base64
import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection, select, text

from contracts import AccessKeyIssued
from contracts.topics import ACCESS_EVENTS_TOPIC
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store import accounts, credentials, tenant_erasures
from services.ingest.adapters.store.audit import add_audit
from services.ingest.core.fields import Moment
from services.ingest.dialects.v1.accounts import TENANT_PATTERN, Rights, Role
from services.ingest.http.answers.accounts import Applications, IssuedApplication, IssuedKey, KeyList
from services.ingest.http.dependencies import PLATFORM_TENANT, Admin, GatewayDep
from services.ingest.http.errors import ApiError
from shared import clock
from shared.processing.unit_of_work import Unit
from shared.web.api_keys import ACCESS, Principal, enter_key
from shared.web.key_format import key_hash, new_key
from shared.web.openapi import answered

router = APIRouter(prefix="/v1", tags=["Accounts"], max_body_size=64 << 10)


class NewKey(BaseModel):
    """The key's owner. Without `tenant_id` it is the caller's tenant; only admins of the platform may name another."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"user_name": "billing", "role": "producer", "tenant_id": "acme", "expires_at": "2099-12-31T00:00:00Z"}]
        }
    )

    user_name: str = Field(min_length=1, max_length=200)
    role: Role = "producer"
    rights: Rights = []
    tenant_id: str | None = Field(default=None, min_length=1, max_length=100, pattern=TENANT_PATTERN)
    tenant_name: str | None = Field(default=None, max_length=200)
    expires_at: Moment | None = None


class NewApplication(BaseModel):
    """The owner of a signing application."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"user_name": "sdk", "role": "producer"}]})

    user_name: str = Field(min_length=1, max_length=200)
    role: Role = "producer"
    rights: Rights = []


def governs(who: Principal, tenant: str) -> bool:
    """True when this admin may act on that tenant."""
    return tenant in (who.tenant_id,) or who.tenant_id == PLATFORM_TENANT


ISSUED_KEY = {
    "key": "sl_…", "key_id": "9f86d081884c7d65…", "tenant_id": "acme", "role": "producer", "rights": [],
    "expires_at": "2099-12-31T00:00:00Z",
}  # fmt: skip
ISSUED_APPLICATION = {"secret_key": "app_3f2a…", "api_key": "c2lnbmluZyBrZXk=", "role": "producer"}


@router.post(
    "/keys", status_code=201, summary="Issue a key", responses=answered(IssuedKey, 201, ISSUED_KEY), operation_id="issueKey"
)
async def issue_key(gateway: GatewayDep, who: Admin, body: Annotated[NewKey, Body()]) -> dict[str, Any]:
    """Only this answer contains the key."""
    key = new_key()
    tenant = body.tenant_id or who.tenant_id
    if not governs(who, tenant):
        raise ApiError(403, "Only admins of the platform issue keys of another tenant.")
    if body.expires_at is not None and body.expires_at <= clock.now():
        raise ApiError(400, "expires_at: a time in the future is expected", "expires_at")
    name = body.tenant_name or (who.tenancy.tenant_name if tenant == who.tenant_id else tenant)
    event = AccessKeyIssued(
        event_id=clock.new_root(), key_hash=key_hash(key), tenant_id=tenant, tenant_name=name, user_name=body.user_name,
        role=body.role, prefix=key[:8], occurred_at=clock.now(), expires_at=body.expires_at, rights=tuple(sorted(set(body.rights))) or None,
    )  # fmt: skip

    def enter(unit: Unit) -> bool:
        if tenant_erasures.is_erased(unit.connection, tenant):
            return False
        enter_key(unit.connection, event)
        unit.emit(ACCESS_EVENTS_TOPIC.name, event, None)
        add_audit(unit.connection, who, unit.now, "key.issue", event.key_hash, tenant)
        return True

    if not await gateway.processor.run_unit(enter):
        raise ApiError(
            409, f"Tenant {tenant} is erased. PUT /v1/tenants/{tenant} admits it again.", "tenant_id", code="tenant_erased"
        )
    return {
        "key": key, "key_id": event.key_hash, "tenant_id": tenant, "role": body.role, "rights": list(event.rights or ()),
        "expires_at": body.expires_at,
    }  # fmt: skip


@router.get("/keys", summary="Keys", operation_id="listKeys", responses=answered(KeyList))
async def keys(
    gateway: GatewayDep, who: Admin, tenant_id: Annotated[str | None, Query(max_length=100, pattern=TENANT_PATTERN)] = None
) -> dict[str, Any]:
    """Keys of the caller's tenant that are not revoked, each with the first characters of the key.

    Admins of the platform may name another tenant.
    """
    tenant = tenant_id or who.tenant_id
    if not governs(who, tenant):
        raise ApiError(403, "Only admins of the platform read the keys of another tenant.")
    mine = select(ACCESS).where(ACCESS.c.tenant_id == tenant, ACCESS.c.revoked == False).order_by(ACCESS.c.key_hash)  # noqa: E712
    rows = await gateway.store.read(lambda c: c.execute(mine).all())
    return {
        "result": [
            {
                "key_id": r.key_hash, "prefix": r.prefix, "user_name": r.user_name, "role": r.role, "rights": (r.rights or "").split(),
                "expires_at": r.expires_at,
            }
            for r in rows
        ]
    }  # fmt: skip


@router.delete("/keys/{key_id}", status_code=204, summary="Revoke a key", operation_id="revokeKey")
async def revoke_key(key_id: str, gateway: GatewayDep, who: Admin) -> None:
    """Takes effect here at once, elsewhere within five seconds. Open streams, waits and downloads of the key end too, and so do the
    links that were shared with it."""
    tenant = await _tenant_of(gateway, key_id)
    if tenant is None or not governs(who, tenant):
        raise ApiError(404, f"Key with ID {key_id[:80]} does not exist.")

    def revoke(unit: Unit) -> None:
        credentials.revoke_key(unit, key_id, tenant)
        add_audit(unit.connection, who, unit.now, "key.revoke", key_id, tenant)

    await gateway.processor.run_unit(revoke)
    gateway.keyring.clear_cache()


async def _tenant_of(gateway: Gateway, key_id: str) -> str | None:
    query = text("SELECT tenant_id FROM access_key WHERE key_hash = :k")
    found: str | None = await gateway.store.read(lambda c: c.execute(query, {"k": key_id}).scalar())
    return found


@router.post(
    "/applications",
    status_code=201,
    summary="Issue credentials for signed requests (amx)",
    responses=answered(IssuedApplication, 201, ISSUED_APPLICATION),
    operation_id="issueApplication",
)
async def issue_application(gateway: GatewayDep, who: Admin, body: Annotated[NewApplication, Body()]) -> dict[str, str]:
    """`secret_key` names the application and travels with each request. `api_key` signs requests; only this answer contains it."""
    app_id, api_key = f"app_{secrets.token_hex(16)}", base64.b64encode(secrets.token_bytes(32)).decode()
    row = {
        "app_id": app_id, "tenant_id": who.tenant_id, "user_name": body.user_name, "role": body.role, "api_key": api_key,
        "rights": " ".join(sorted(set(body.rights))) or None,
    }  # fmt: skip

    def enter(connection: Connection) -> None:
        connection.execute(accounts.APPS.insert().values(**row, revoked=False, created_at=clock.unix()))
        add_audit(connection, who, clock.unix(), "application.issue", app_id)

    await gateway.store.transact(enter)
    return {"secret_key": app_id, "api_key": api_key, "role": body.role}


@router.get("/applications", summary="Signing applications", operation_id="listApplications", responses=answered(Applications))
async def applications(gateway: GatewayDep, who: Admin) -> dict[str, Any]:
    """Applications of the caller's tenant that are not revoked."""
    query = text("SELECT app_id, user_name, role FROM amx_app WHERE tenant_id = :t AND revoked = :no ORDER BY app_id")
    rows = await gateway.store.read(lambda c: c.execute(query, {"t": who.tenant_id, "no": False}).all())
    return {"result": [{"secret_key": r.app_id, "user_name": r.user_name, "role": r.role} for r in rows]}


@router.delete(
    "/applications/{secret_key}", status_code=204, summary="Revoke a signing application", operation_id="revokeApplication"
)
async def revoke_application(secret_key: str, gateway: GatewayDep, who: Admin) -> None:
    """Takes effect at once, on every replica. What it has open ends within five seconds, and so do the links that it shared."""

    def revoke(connection: Connection) -> bool:
        mine = (accounts.APPS.c.app_id == secret_key) & (accounts.APPS.c.tenant_id == who.tenant_id)
        if not connection.execute(accounts.APPS.update().where(mine).values(revoked=True)).rowcount:
            return False
        add_audit(connection, who, clock.unix(), "application.revoke", secret_key)
        return True

    if not await gateway.store.transact(revoke):
        raise ApiError(404, f"Application {secret_key[:80]} does not exist.")
