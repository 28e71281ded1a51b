"""Tables of tenants with their quotas, users with their passwords, signing applications and their used nonces."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Index, text
from sqlmodel import Field, SQLModel

from services.ingest.core.job_view import text as shown_time
from shared.database.store import table_of
from shared.web.api_keys import Principal

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
_TENANT = text(
    "INSERT INTO tenant (tenant_id, name, quotas, inbox, created_at) VALUES (:t, :n, :q, :i, :at) "
    "ON CONFLICT (tenant_id) DO UPDATE SET name = excluded.name, quotas = excluded.quotas, inbox = excluded.inbox"
)
_AUDIT = text("INSERT INTO audit (tenant_id, at, body) VALUES (:t, :at, :b)")


def use_nonce(connection: Connection, app_id: str, nonce: str, at: float, kept_s: float) -> bool:
    """Mark a nonce as used at `at` (Unix seconds). Returns False when it was used before. Deletes nonces older than `kept_s`
    seconds."""
    connection.execute(_OLD_NONCES, {"old": at - kept_s})
    return connection.execute(_NONCE, {"a": app_id, "n": nonce, "at": at}).first() is not None


def app_by_id(connection: Connection, app_id: str) -> Any:
    """The row of an application that is not revoked, with its tenant's name; None if there is none."""
    return connection.execute(_APP, {"a": app_id, "no": False}).first()


def user_by_name(connection: Connection, user_name: str) -> Any:
    """The user's row with the tenant's name; None if there is none."""
    return connection.execute(_USER, {"u": user_name}).first()


def save_tenant(connection: Connection, tenant_id: str, name: str, quotas: Record, inbox: str | None, at: float) -> None:
    """Add a tenant, or change its name, quotas and inbox address."""
    connection.execute(_TENANT, {"t": tenant_id, "n": name, "q": json.dumps(quotas), "i": inbox, "at": at})


def add_audit(connection: Connection, who: Principal, at: float, verb: str, subject: str, tenant: str | None = None) -> None:
    """Add an administrative act to the audit of the tenant it concerns. Call it in the transaction of the act."""
    body = {
        "subject": subject, "verb": verb, "ok": True, "code": None, "message": None, "by": who.tenancy.user_name,
        "by_tenant": who.tenant_id, "reason": "", "job_id": None, "command_id": None, "occurred_at": shown_time(datetime.fromtimestamp(at, UTC)),
    }  # fmt: skip
    connection.execute(_AUDIT, {"t": tenant or who.tenant_id, "at": at, "b": json.dumps(body)})
