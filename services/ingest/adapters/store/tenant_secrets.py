"""Names of the tenants' secrets. The values are in `secret.events` alone, sealed."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, text
from sqlmodel import Field, SQLModel


class SecretRow(SQLModel, table=True):
    """A secret of a tenant by name: where it may be sent to, and who set it when (Unix seconds)."""

    __tablename__ = "tenant_secret"
    tenant_id: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    origins: str
    changed_by: str
    changed_at: float


MODELS: tuple[type[SQLModel], ...] = (SecretRow,)
_SAVE = text(
    "INSERT INTO tenant_secret (tenant_id, name, origins, changed_by, changed_at) VALUES (:t, :n, :o, :by, :at) "
    "ON CONFLICT (tenant_id, name) DO UPDATE SET origins = excluded.origins, changed_by = excluded.changed_by, changed_at = excluded.changed_at"
)
_DROP = text("DELETE FROM tenant_secret WHERE tenant_id = :t AND name = :n")
_COUNT = text("SELECT count(*) FROM tenant_secret WHERE tenant_id = :t AND name <> :n")
_LIST = text("SELECT name, origins, changed_by, changed_at FROM tenant_secret WHERE tenant_id = :t ORDER BY name")


def save_secret(connection: Connection, tenant: str, name: str, origins: list[str], by: str, at: float) -> None:
    """Add a secret's name, or change what is said of it."""
    connection.execute(_SAVE, {"t": tenant, "n": name, "o": json.dumps(origins), "by": by, "at": at})


def drop_secret(connection: Connection, tenant: str, name: str) -> bool:
    """Delete a secret's name. False when there is none."""
    return bool(connection.execute(_DROP, {"t": tenant, "n": name}).rowcount)


def count_others(connection: Connection, tenant: str, name: str) -> int:
    """Number of the tenant's secrets beside `name`."""
    return int(connection.execute(_COUNT, {"t": tenant, "n": name}).scalar_one())


def listed(connection: Connection, tenant: str) -> list[dict[str, Any]]:
    """The tenant's secrets by name, without their values."""
    return [{**row._mapping, "origins": json.loads(row.origins)} for row in connection.execute(_LIST, {"t": tenant})]
