"""Tenants, users, keys and signing applications, under /v1. Admins act for their own tenant; admins of the platform act for all."""

from __future__ import annotations

import base64
import json
import secrets
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Path
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection, select, text

from contracts import AccessKeyIssued, AccessKeyRevoked, derived
from contracts.topics import ACCESS_EVENTS_TOPIC
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store import accounts
from services.ingest.adapters.store import quotas as limits
from services.ingest.core.fields import Flag, Moment, Whole
from services.ingest.http.dependencies import PLATFORM_TENANT, Admin, GatewayDep, Reader
from services.ingest.http.errors import ApiError
from services.ingest.http.passwords import hash_password
from shared import clock
from shared.processing.unit_of_work import Unit
from shared.web.api_keys import ACCESS, Principal, enter_key
from shared.web.key_format import key_hash, new_key

router = APIRouter(prefix="/v1", tags=["Accounts"], max_body_size=64 << 10)
TENANT_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
USER_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.@+-]*$"
TenantId = Annotated[str, Path(min_length=1, max_length=100, pattern=TENANT_PATTERN)]
UserName = Annotated[str, Path(min_length=1, max_length=200, pattern=USER_PATTERN)]
Role = Literal["admin", "operator", "producer", "reader"]


class QuotaBody(BaseModel):
    """Limits of a tenant. null means no limit; for requests it means the service's default."""

    model_config = ConfigDict(extra="forbid")

    requests_per_minute: Whole | None = Field(default=None, ge=1, le=100_000_000)
    jobs_open: Whole | None = Field(default=None, ge=0, le=100_000_000)
    files_per_day: Whole | None = Field(default=None, ge=0, le=1_000_000_000)
    bytes_per_day: Whole | None = Field(default=None, ge=0, le=1 << 60)


class TenantBody(BaseModel):
    """A tenant's name and limits."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    quotas: QuotaBody = QuotaBody()
    inbox: str | None = Field(default=None, min_length=3, max_length=254, pattern=r"^[^@\s]+@[^@\s]+$")
    """Address to which mail for this tenant is sent, for `GET /api/company/inbox`."""


class UserBody(BaseModel):
    """A user that signs in with a password. Without `password` the present one stays."""

    model_config = ConfigDict(extra="forbid")

    password: str | None = Field(default=None, min_length=10, max_length=1000)
    role: Role = "producer"
    disabled: Flag = False


class NewKey(BaseModel):
    """The key's owner. Without `tenant_id` it is the caller's tenant; only admins of the platform may name another."""

    user_name: str = Field(min_length=1, max_length=200)
    role: Role = "producer"
    tenant_id: str | None = Field(default=None, min_length=1, max_length=100, pattern=TENANT_PATTERN)
    tenant_name: str | None = Field(default=None, max_length=200)
    expires_at: Moment | None = None


class NewApplication(BaseModel):
    """The owner of a signing application."""

    model_config = ConfigDict(extra="forbid")

    user_name: str = Field(min_length=1, max_length=200)
    role: Role = "producer"


def governs(who: Principal, tenant: str) -> bool:
    """True when this admin may act on that tenant."""
    return tenant in (who.tenant_id,) or who.tenant_id == PLATFORM_TENANT


@router.put("/tenants/{tenant_id}", summary="Create or change a tenant")
async def put_tenant(tenant_id: TenantId, gateway: GatewayDep, who: Admin, body: Annotated[TenantBody, Body()]) -> dict[str, Any]:
    """For admins of the platform. New quotas take effect within five seconds."""
    if who.tenant_id != PLATFORM_TENANT:
        raise ApiError(403, "Only admins of the platform administer tenants.")
    quotas = body.quotas.model_dump()

    def enter(connection: Connection) -> None:
        accounts.save_tenant(connection, tenant_id, body.name, quotas, body.inbox, clock.unix())
        accounts.add_audit(connection, who, clock.unix(), "tenant.put", tenant_id, tenant_id)

    await gateway.store.transact(enter)
    return {"tenant_id": tenant_id, "name": body.name, "quotas": quotas, "inbox": body.inbox}


@router.get("/tenants", summary="Tenants")
async def tenants(gateway: GatewayDep, who: Admin) -> dict[str, Any]:
    """For admins of the platform."""
    if who.tenant_id != PLATFORM_TENANT:
        raise ApiError(403, "Only admins of the platform administer tenants.")
    query = text("SELECT tenant_id, name, quotas, inbox FROM tenant ORDER BY tenant_id")
    rows = await gateway.store.read(lambda c: c.execute(query).all())
    return {
        "result": [{"tenant_id": r.tenant_id, "name": r.name, "quotas": json.loads(r.quotas), "inbox": r.inbox} for r in rows]
    }


@router.get("/tenant", summary="Quotas and usage of your tenant")
async def own_tenant(gateway: GatewayDep, who: Reader) -> dict[str, Any]:
    """`used` counts today's files and bytes (UTC), and open jobs up to 10,000."""
    quotas = await gateway.limits.quotas(who.tenant_id)

    def used(connection: Connection) -> dict[str, int]:
        found = limits.used_today(connection, who.tenant_id, clock.unix())
        return {**found, "jobs_open": limits.open_jobs(connection, who.tenant_id, 10_000)}

    shown = {name: getattr(quotas, name) for name in QuotaBody.model_fields}
    name = who.tenancy.tenant_name
    return {"tenant_id": who.tenant_id, "name": name, "quotas": shown, "used": await gateway.store.read(used)}


@router.put("/users/{user_name}", summary="Create or change a user")
async def put_user(user_name: UserName, gateway: GatewayDep, who: Admin, body: Annotated[UserBody, Body()]) -> dict[str, Any]:
    """A user of the caller's tenant. User names are unique over all tenants: 409 for a name of another tenant. A change revokes
    the user's tokens."""
    password = await hash_password(body.password) if body.password is not None else None

    def enter(unit: Unit) -> str:
        c = unit.connection
        known = accounts.user_by_name(c, user_name)
        if known is not None and known.tenant_id != who.tenant_id:
            return "taken"
        if known is None and password is None:
            return "password"
        values = {"role": body.role, "disabled": body.disabled, **({"password_hash": password} if password else {})}
        if known is None:
            c.execute(accounts.USERS.insert().values(user_name=user_name, tenant_id=who.tenant_id, created_at=unit.now, **values))
        else:
            c.execute(accounts.USERS.update().where(accounts.USERS.c.user_name == user_name).values(**values))
            _end_tokens(unit, user_name, who.tenant_id)
        accounts.add_audit(c, who, unit.now, "user.put", user_name)
        return "done"

    outcome = await gateway.processor.run_unit(enter)
    gateway.keyring.clear_cache()
    if outcome == "taken":
        raise ApiError(409, f"user_name: {user_name} is taken.", "user_name")
    if outcome == "password":
        raise ApiError(400, "password: required for a new user", "password")
    return {"user_name": user_name, "role": body.role, "disabled": body.disabled}


def _end_tokens(unit: Unit, user_name: str, tenant: str) -> None:
    """Revoke the tokens that were issued for the user's password."""
    open_ = select(ACCESS.c.key_hash).where(
        ACCESS.c.user_name == user_name, ACCESS.c.tenant_id == tenant, ACCESS.c.revoked == False, ACCESS.c.expires_at > unit.now  # noqa: E712
    )  # fmt: skip
    for key_id in unit.connection.execute(open_).scalars().all():
        _revoke(unit, key_id, tenant)


@router.get("/users", summary="Users")
async def users(gateway: GatewayDep, who: Admin) -> dict[str, Any]:
    """The users of the caller's tenant, without passwords."""
    query = text("SELECT user_name, role, disabled FROM app_user WHERE tenant_id = :t ORDER BY user_name")
    rows = await gateway.store.read(lambda c: c.execute(query, {"t": who.tenant_id}).all())
    return {"result": [{"user_name": r.user_name, "role": r.role, "disabled": bool(r.disabled)} for r in rows]}


@router.delete("/users/{user_name}", status_code=204, summary="Delete a user")
async def delete_user(user_name: UserName, gateway: GatewayDep, who: Admin) -> None:
    """The user's tokens are revoked too."""

    def drop(unit: Unit) -> bool:
        mine = (accounts.USERS.c.user_name == user_name) & (accounts.USERS.c.tenant_id == who.tenant_id)
        if not unit.connection.execute(accounts.USERS.delete().where(mine)).rowcount:
            return False
        _end_tokens(unit, user_name, who.tenant_id)
        accounts.add_audit(unit.connection, who, unit.now, "user.delete", user_name)
        return True

    gone = await gateway.processor.run_unit(drop)
    gateway.keyring.clear_cache()
    if not gone:
        raise ApiError(404, f"User {user_name} does not exist.")


@router.post("/keys", status_code=201, summary="Issue a key")
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
        role=body.role, prefix=key[:8], occurred_at=clock.now(), expires_at=body.expires_at,
    )  # fmt: skip

    def enter(unit: Unit) -> None:
        enter_key(unit.connection, event)
        unit.emit(ACCESS_EVENTS_TOPIC.name, event, None)
        accounts.add_audit(unit.connection, who, unit.now, "key.issue", event.key_hash, tenant)

    await gateway.processor.run_unit(enter)
    return {"key": key, "key_id": event.key_hash, "tenant_id": tenant, "role": body.role, "expires_at": body.expires_at}


@router.get("/keys", summary="Keys")
async def keys(gateway: GatewayDep, who: Admin) -> dict[str, Any]:
    """Keys of the caller's tenant that are not revoked, each with the first characters of the key."""
    mine = select(ACCESS).where(ACCESS.c.tenant_id == who.tenant_id, ACCESS.c.revoked == False).order_by(ACCESS.c.key_hash)  # noqa: E712
    rows = await gateway.store.read(lambda c: c.execute(mine).all())
    return {
        "result": [
            {"key_id": r.key_hash, "prefix": r.prefix, "user_name": r.user_name, "role": r.role, "expires_at": r.expires_at}
            for r in rows
        ]
    }


@router.delete("/keys/{key_id}", status_code=204, summary="Revoke a key")
async def revoke_key(key_id: str, gateway: GatewayDep, who: Admin) -> None:
    """Takes effect here at once, elsewhere within seconds."""
    tenant = await _tenant_of(gateway, key_id)
    if tenant is None or not governs(who, tenant):
        raise ApiError(404, f"Key with ID {key_id[:80]} does not exist.")

    def revoke(unit: Unit) -> None:
        _revoke(unit, key_id, tenant)
        accounts.add_audit(unit.connection, who, unit.now, "key.revoke", key_id, tenant)

    await gateway.processor.run_unit(revoke)
    gateway.keyring.clear_cache()


async def _tenant_of(gateway: Gateway, key_id: str) -> str | None:
    query = text("SELECT tenant_id FROM access_key WHERE key_hash = :k")
    found: str | None = await gateway.store.read(lambda c: c.execute(query, {"k": key_id}).scalar())
    return found


def _revoke(unit: Unit, key_id: str, tenant: str) -> None:
    event = AccessKeyRevoked(event_id=derived(key_id, "revoked"), key_hash=key_id, tenant_id=tenant, occurred_at=clock.now())
    unit.connection.execute(ACCESS.update().where(ACCESS.c.key_hash == key_id).values(revoked=True))
    unit.emit(ACCESS_EVENTS_TOPIC.name, event, None)


@router.post("/applications", status_code=201, summary="Issue credentials for signed requests (amx)")
async def issue_application(gateway: GatewayDep, who: Admin, body: Annotated[NewApplication, Body()]) -> dict[str, str]:
    """`secret_key` names the application and travels with each request. `api_key` signs requests; only this answer contains it."""
    app_id, api_key = f"app_{secrets.token_hex(16)}", base64.b64encode(secrets.token_bytes(32)).decode()
    row = {"app_id": app_id, "tenant_id": who.tenant_id, "user_name": body.user_name, "role": body.role, "api_key": api_key}

    def enter(connection: Connection) -> None:
        connection.execute(accounts.APPS.insert().values(**row, revoked=False, created_at=clock.unix()))
        accounts.add_audit(connection, who, clock.unix(), "application.issue", app_id)

    await gateway.store.transact(enter)
    return {"secret_key": app_id, "api_key": api_key, "role": body.role}


@router.get("/applications", summary="Signing applications")
async def applications(gateway: GatewayDep, who: Admin) -> dict[str, Any]:
    """Applications of the caller's tenant that are not revoked."""
    query = text("SELECT app_id, user_name, role FROM amx_app WHERE tenant_id = :t AND revoked = :no ORDER BY app_id")
    rows = await gateway.store.read(lambda c: c.execute(query, {"t": who.tenant_id, "no": False}).all())
    return {"result": [{"secret_key": r.app_id, "user_name": r.user_name, "role": r.role} for r in rows]}


@router.delete("/applications/{secret_key}", status_code=204, summary="Revoke a signing application")
async def revoke_application(secret_key: str, gateway: GatewayDep, who: Admin) -> None:
    """Takes effect at once, on every replica."""

    def revoke(connection: Connection) -> bool:
        mine = (accounts.APPS.c.app_id == secret_key) & (accounts.APPS.c.tenant_id == who.tenant_id)
        if not connection.execute(accounts.APPS.update().where(mine).values(revoked=True)).rowcount:
            return False
        accounts.add_audit(connection, who, clock.unix(), "application.revoke", secret_key)
        return True

    if not await gateway.store.transact(revoke):
        raise ApiError(404, f"Application {secret_key[:80]} does not exist.")
