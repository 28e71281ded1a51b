"""Tenants and users, under /v1. Admins act for their own tenant; admins of the platform act for all."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Path
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection, text

from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store import accounts, credentials, reservations, tenant_erasures
from services.ingest.adapters.store.audit import add_audit
from services.ingest.core.fields import Flag, Whole
from services.ingest.http.answers.accounts import OwnTenant, Tenant, Tenants, User, Users
from services.ingest.http.dependencies import PLATFORM_TENANT, Admin, GatewayDep, Reader
from services.ingest.http.errors import ApiError
from shared import clock
from shared.processing.unit_of_work import Unit
from shared.web.api_keys import Principal
from shared.web.openapi import answered

router = APIRouter(prefix="/v1", tags=["Accounts"], max_body_size=64 << 10)
TENANT_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
USER_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.@+-]*$"
TenantId = Annotated[str, Path(min_length=1, max_length=100, pattern=TENANT_PATTERN)]
UserName = Annotated[str, Path(min_length=1, max_length=200, pattern=USER_PATTERN)]
Role = Literal["admin", "operator", "producer", "reader"]
Rights = Annotated[
    list[Literal["share"]], Field(max_length=10, description="Rights beside the role. Operators and admins have all.")
]


class QuotaBody(BaseModel):
    """Limits of a tenant. null means no limit; for requests, workflows and actions the service's default."""

    model_config = ConfigDict(extra="forbid")

    requests_per_minute: Whole | None = Field(default=None, ge=1, le=100_000_000)
    jobs_open: Whole | None = Field(default=None, ge=0, le=100_000_000)
    files_per_day: Whole | None = Field(default=None, ge=0, le=1_000_000_000)
    bytes_per_day: Whole | None = Field(default=None, ge=0, le=1 << 60)
    workflows: Whole | None = Field(default=None, ge=0, le=1_000_000)
    actions: Whole | None = Field(default=None, ge=0, le=10_000)


class TenantBody(BaseModel):
    """A tenant's name and limits."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "Acme", "quotas": {"jobs_open": 1000, "bytes_per_day": 10_000_000_000}}]},
    )

    name: str = Field(min_length=1, max_length=200)
    quotas: QuotaBody = QuotaBody()
    inbox: str | None = Field(default=None, min_length=3, max_length=254, pattern=r"^[^@\s]+@[^@\s]+$")
    """Address to which mail for this tenant is sent, for `GET /api/company/inbox`."""


class UserBody(BaseModel):
    """A user that signs in with a password. Without `password` the present one stays."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"password": "correct horse battery", "role": "reader", "rights": ["share"]}]},
    )

    password: str | None = Field(default=None, min_length=10, max_length=1000)
    role: Role = "producer"
    rights: Rights = []
    disabled: Flag = False


@router.put("/tenants/{tenant_id}", summary="Create or change a tenant", operation_id="putTenant", responses=answered(Tenant))
async def put_tenant(tenant_id: TenantId, gateway: GatewayDep, who: Admin, body: Annotated[TenantBody, Body()]) -> dict[str, Any]:
    """For admins of the platform. New quotas take effect within five seconds. Admits an erased tenant again; 409 while it is erased."""
    if who.tenant_id != PLATFORM_TENANT:
        raise ApiError(403, "Only admins of the platform administer tenants.")
    quotas = body.quotas.model_dump()

    def enter(connection: Connection) -> bool:
        if not tenant_erasures.readmit(connection, tenant_id):
            return False
        accounts.save_tenant(connection, tenant_id, body.name, quotas, body.inbox, clock.unix())
        add_audit(connection, who, clock.unix(), "tenant.put", tenant_id, tenant_id)
        return True

    if not await gateway.store.transact(enter):
        raise ApiError(409, f"Tenant {tenant_id} is being erased.", "tenant_id", code="tenant_erased")
    return {"tenant_id": tenant_id, "name": body.name, "quotas": quotas, "inbox": body.inbox}


@router.get("/tenants", summary="Tenants", operation_id="listTenants", responses=answered(Tenants))
async def tenants(gateway: GatewayDep, who: Admin) -> dict[str, Any]:
    """For admins of the platform."""
    if who.tenant_id != PLATFORM_TENANT:
        raise ApiError(403, "Only admins of the platform administer tenants.")
    query = text("SELECT tenant_id, name, quotas, inbox FROM tenant ORDER BY tenant_id")
    rows = await gateway.store.read(lambda c: c.execute(query).all())
    return {
        "result": [{"tenant_id": r.tenant_id, "name": r.name, "quotas": json.loads(r.quotas), "inbox": r.inbox} for r in rows]
    }


@router.get("/tenant", summary="Quotas and usage of your tenant", operation_id="getOwnTenant", responses=answered(OwnTenant))
async def own_tenant(gateway: GatewayDep, who: Reader) -> dict[str, Any]:
    """`used` counts today's files and bytes (UTC), and open jobs up to 10,000."""
    quotas = await gateway.limits.quotas(who.tenant_id)

    def used(connection: Connection) -> dict[str, int]:
        found = reservations.used_today(connection, who.tenant_id, clock.unix())
        return {**found, "jobs_open": reservations.open_jobs(connection, who.tenant_id, 10_000, clock.unix())}

    shown = {name: getattr(quotas, name) for name in QuotaBody.model_fields}
    name = who.tenancy.tenant_name
    return {"tenant_id": who.tenant_id, "name": name, "quotas": shown, "used": await gateway.store.read(used)}


@router.put("/users/{user_name}", summary="Create or change a user", operation_id="putUser", responses=answered(User))
async def put_user(user_name: UserName, gateway: GatewayDep, who: Admin, body: Annotated[UserBody, Body()]) -> dict[str, Any]:
    """A user of the caller's tenant. User names are unique over all tenants: 409 for a name of another tenant. A change revokes
    the user's tokens."""
    password = await _hashed(gateway, who, body.password)

    def enter(unit: Unit) -> str:
        c = unit.connection
        known = accounts.user_by_name(c, user_name)
        if known is not None and known.tenant_id != who.tenant_id:
            return "taken"
        if known is None and password is None:
            return "password"
        values = {"role": body.role, "rights": " ".join(sorted(set(body.rights))) or None, "disabled": body.disabled}
        values |= {"password_hash": password} if password else {}
        if known is None:
            c.execute(accounts.USERS.insert().values(user_name=user_name, tenant_id=who.tenant_id, created_at=unit.now, **values))
        else:
            c.execute(accounts.USERS.update().where(accounts.USERS.c.user_name == user_name).values(**values))
            credentials.revoke_tokens(unit, user_name, who.tenant_id)
        add_audit(c, who, unit.now, "user.put", user_name)
        return "done"

    outcome = await gateway.processor.run_unit(enter)
    gateway.keyring.clear_cache()
    if outcome == "taken":
        raise ApiError(409, f"user_name: {user_name} is taken.", "user_name")
    if outcome == "password":
        raise ApiError(400, "password: required for a new user", "password")
    return {"user_name": user_name, "role": body.role, "rights": sorted(set(body.rights)), "disabled": body.disabled}


async def _hashed(gateway: Gateway, who: Principal, password: str | None) -> str | None:
    """The hash of a new password. Raises `Retry` when too many passwords are being hashed."""
    if password is None:
        return None
    with gateway.passwords.place(f"admin:{who.tenant_id}", known=True):
        return await gateway.passwords.hash_password(password)


@router.get("/users", summary="Users", operation_id="listUsers", responses=answered(Users))
async def users(gateway: GatewayDep, who: Admin) -> dict[str, Any]:
    """The users of the caller's tenant, without passwords."""
    query = text("SELECT user_name, role, rights, disabled FROM app_user WHERE tenant_id = :t ORDER BY user_name")
    rows = await gateway.store.read(lambda c: c.execute(query, {"t": who.tenant_id}).all())
    return {
        "result": [
            {"user_name": r.user_name, "role": r.role, "rights": (r.rights or "").split(), "disabled": bool(r.disabled)}
            for r in rows
        ]
    }


@router.delete("/users/{user_name}", status_code=204, summary="Delete a user", operation_id="deleteUser")
async def delete_user(user_name: UserName, gateway: GatewayDep, who: Admin) -> None:
    """Revokes everything that the user can sign in or sign with: tokens, keys and applications under the user's name. The links
    that the user shared end too."""

    def drop(unit: Unit) -> bool:
        mine = (accounts.USERS.c.user_name == user_name) & (accounts.USERS.c.tenant_id == who.tenant_id)
        if not unit.connection.execute(accounts.USERS.delete().where(mine)).rowcount:
            return False
        credentials.revoke_all(unit, user_name, who.tenant_id)
        add_audit(unit.connection, who, unit.now, "user.delete", user_name)
        return True

    gone = await gateway.processor.run_unit(drop)
    gateway.keyring.clear_cache()
    if not gone:
        raise ApiError(404, f"User {user_name} does not exist.")
