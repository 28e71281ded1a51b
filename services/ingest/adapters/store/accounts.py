"""Tables of tenants with their quotas, users with their passwords, signing applications and their used nonces."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Index, select, text
from sqlmodel import Field, SQLModel

from shared.database.store import table_of

Record = dict[str, Any]


class TenantRow(SQLModel, table=True):
    """A tenant's name, quotas (JSON) and inbox address. Times in Unix seconds."""

    __tablename__ = "tenant"
    tenant_id: str = Field(primary_key=True)
    name: str
    quotas: str
    inbox: str | None = None
    created_at: float


class UserRow(SQLModel, table=True):
    """A user that signs in with a password. Names are unique over all tenants, because a sign-in names no tenant."""

    __tablename__ = "app_user"
    user_name: str = Field(primary_key=True)
    tenant_id: str = Field(index=True)
    password_hash: str
    role: str
    disabled: bool = False
    created_at: float
    rights: str | None = None
    """Rights of the user's tokens beside the role, separated by spaces."""


class AmxRow(SQLModel, table=True):
    """An application that signs its requests. Verifying a signature needs the key itself, so it is stored as it is."""

    __tablename__ = "amx_app"
    app_id: str = Field(primary_key=True)
    tenant_id: str = Field(index=True)
    user_name: str
    role: str
    api_key: str
    revoked: bool = False
    created_at: float
    rights: str | None = None
    """Rights beside the role, separated by spaces."""


class NonceRow(SQLModel, table=True):
    """A nonce that was accepted. No replica accepts it again."""

    __tablename__ = "amx_nonce"
    app_id: str = Field(primary_key=True)
    nonce: str = Field(primary_key=True)
    at: float
    __table_args__ = (Index("amx_nonce_at", "at"),)


MODELS: tuple[type[SQLModel], ...] = (TenantRow, UserRow, AmxRow, NonceRow)
USERS, APPS = table_of(UserRow), table_of(AmxRow)
_NONCE = text("INSERT INTO amx_nonce (app_id, nonce, at) VALUES (:a, :n, :at) ON CONFLICT DO NOTHING RETURNING nonce")
_OLD_NONCES = text("DELETE FROM amx_nonce WHERE at < :old")
_APP = text(
    "SELECT a.*, t.name AS tenant_name FROM amx_app a LEFT JOIN tenant t ON t.tenant_id = a.tenant_id "
    "WHERE a.app_id = :a AND a.revoked = :no"
)
_USER = text(
    "SELECT u.*, t.name AS tenant_name FROM app_user u LEFT JOIN tenant t ON t.tenant_id = u.tenant_id WHERE u.user_name = :u"
)
_IS_USER = text("SELECT 1 FROM app_user WHERE user_name = :u AND tenant_id = :t")
_TENANT = text(
    "INSERT INTO tenant (tenant_id, name, quotas, inbox, created_at) VALUES (:t, :n, :q, :i, :at) "
    "ON CONFLICT (tenant_id) DO UPDATE SET name = excluded.name, quotas = excluded.quotas, inbox = excluded.inbox"
)


def use_nonce(connection: Connection, app_id: str, nonce: str, at: float, kept_s: float) -> bool:
    """Mark a nonce as used at `at` (Unix seconds). Returns False when it was used before. Deletes nonces older than `kept_s`
    seconds."""
    connection.execute(_OLD_NONCES, {"old": at - kept_s})
    return connection.execute(_NONCE, {"a": app_id, "n": nonce, "at": at}).first() is not None


def app_by_id(connection: Connection, app_id: str) -> Any:
    """The row of an application that is not revoked, with its tenant's name; None if there is none."""
    return connection.execute(_APP, {"a": app_id, "no": False}).first()


def valid_apps(connection: Connection, app_ids: Collection[str]) -> set[str]:
    """Those of the applications that are not revoked."""
    found = select(APPS.c.app_id).where(APPS.c.app_id.in_(app_ids), APPS.c.revoked == False)  # noqa: E712
    return set(connection.execute(found).scalars())


def is_user(connection: Connection, user_name: str, tenant: str) -> bool:
    """True when a user of that name signs in to the tenant."""
    return connection.execute(_IS_USER, {"u": user_name, "t": tenant}).first() is not None


def user_by_name(connection: Connection, user_name: str) -> Any:
    """The user's row with the tenant's name; None if there is none."""
    return connection.execute(_USER, {"u": user_name}).first()


def save_tenant(connection: Connection, tenant_id: str, name: str, quotas: Record, inbox: str | None, at: float) -> None:
    """Add a tenant, or change its name, quotas and inbox address."""
    connection.execute(_TENANT, {"t": tenant_id, "n": name, "q": json.dumps(quotas), "i": inbox, "at": at})
