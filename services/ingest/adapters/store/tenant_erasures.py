"""Erasures of whole tenants: what is left of a tenant, and the rows that go at the end."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, text
from sqlmodel import Field, SQLModel

from services.ingest.adapters.store import credentials, row_turns
from services.ingest.adapters.store.accounts import APPS, USERS
from services.ingest.adapters.store.erasures import erase_entry
from shared.processing.unit_of_work import Unit

KIND = "tenant"
"""Kind of the turns of these rows."""
PAGE = 500


class TenantErasureRow(SQLModel, table=True):
    """The erasure of a tenant: `running`, then `done`. The row stays, so that nobody makes content in the tenant's name."""

    __tablename__ = "tenant_erasure"
    tenant_id: str = Field(primary_key=True)
    state: str
    by_user: str
    started_at: float
    announced_at: float | None = None
    """When `TenantErased` was published. Unix seconds, like all times here."""
    ended_at: float | None = None


MODELS: tuple[type[SQLModel], ...] = (TenantErasureRow,)
DUE = row_turns.fair(KIND, "tenant_erasure", "tenant_id", "tenant_id", "started_at", "r.state = 'running'")
NEXT = text(
    "SELECT min(w.next_at) FROM row_turn w JOIN tenant_erasure r ON r.tenant_id = w.id WHERE w.kind = 'tenant' AND r.state = 'running'"
)
WITH_TENANT = (
    "app_user", "amx_app", "bulk", "conversion_connection", "conversion_job", "conversion_outlet", "conversion_profile", "file_view", "former_file",
    "idempotency", "index_pending", "job_term", "job_view", "known_name", "metadata_definition", "recycled_file", "reservation", "retention", "saved_query",
    "schedule_view", "session_view", "share_link", "silo_entry", "silo_file", "silo_flow", "silo_flow_gone", "silo_job", "tag", "tenant",
    "tenant_action", "tenant_secret", "upload", "usage_day",
)  # fmt: skip
"""Tables whose rows name their tenant. Not those of the audit, of keys and of erasures, which end by themselves."""
_BELOW = (
    "DELETE FROM upload_part WHERE upload_id IN (SELECT id FROM upload WHERE tenant_id = :t)",
    "DELETE FROM conversion_data WHERE conversion_id IN (SELECT id FROM conversion_job WHERE tenant_id = :t)",
    "DELETE FROM amx_nonce WHERE app_id IN (SELECT app_id FROM amx_app WHERE tenant_id = :t)",
    "DELETE FROM blob_ref WHERE substr(blob, 1, length(CAST(:p AS text))) = CAST(:p AS text)",
    "DELETE FROM object_claim WHERE substr(blob, 1, length(CAST(:p AS text))) = CAST(:p AS text)",
    "DELETE FROM access_key WHERE tenant_id = :t AND revoked = :yes",
)
"""Rows that name no tenant, but something of it."""
_BEGIN = text(
    "INSERT INTO tenant_erasure (tenant_id, state, by_user, started_at) VALUES (:t, 'running', :u, :at) ON CONFLICT (tenant_id) DO UPDATE "
    "SET state = 'running', by_user = excluded.by_user, started_at = excluded.started_at, announced_at = NULL, ended_at = NULL "
    "WHERE tenant_erasure.state = 'done'"
)
_OF = text("SELECT * FROM tenant_erasure WHERE tenant_id = :t")
_IS_ERASED = text("SELECT 1 FROM tenant_erasure WHERE tenant_id = :t")
_KEYS = text("SELECT key_hash FROM access_key WHERE tenant_id = :t AND revoked = :no")


def _requests(kind: str, table: str) -> str:
    return (
        f"INSERT INTO erasure_request (id, kind, tenant_id, by_user, reason, at) SELECT id, '{kind}', tenant_id, CAST(:u AS text), "
        f"'tenant erased', CAST(:at AS double precision) FROM {table} WHERE tenant_id = :t AND NOT EXISTS (SELECT 1 FROM erasure_request r "
        f"WHERE r.id = {table}.id) ORDER BY id LIMIT :n ON CONFLICT DO NOTHING"
    )


_ASK = [text(_requests(kind, table)) for kind, table in (("job", "job_view"), ("session", "session_view"))]
_LEFT = {
    "jobs": text("SELECT count(*) FROM (SELECT 1 FROM job_view WHERE tenant_id = :t LIMIT 10000) x"),
    "sessions": text("SELECT count(*) FROM (SELECT 1 FROM session_view WHERE tenant_id = :t LIMIT 10000) x"),
    "erasures": text("SELECT count(*) FROM (SELECT 1 FROM erasure_request WHERE tenant_id = :t LIMIT 10000) x"),
    "entries": text("SELECT count(*) FROM (SELECT 1 FROM silo_entry WHERE tenant_id = :t LIMIT 10000) x"),
}
_ENTRIES = text(
    "SELECT id FROM silo_entry WHERE tenant_id = :t UNION SELECT entry_id FROM silo_file WHERE tenant_id = :t LIMIT :n"
)
_STOP_BULK = text("UPDATE bulk SET state = 'stopped' WHERE tenant_id = :t AND state = 'running'")


def begin(unit: Unit, tenant: str, by: str) -> None:
    """Begin, or begin again; shut the tenant out in the same transaction: keys, users, applications, links and bulk runs."""
    unit.connection.execute(_BEGIN, {"t": tenant, "u": by, "at": unit.now})
    for key_id in unit.connection.execute(_KEYS, {"t": tenant, "no": False}).scalars().all():
        credentials.revoke_key(unit, key_id, tenant)
    unit.connection.execute(APPS.update().where(APPS.c.tenant_id == tenant).values(revoked=True))
    unit.connection.execute(USERS.delete().where(USERS.c.tenant_id == tenant))
    unit.connection.execute(text("DELETE FROM share_link WHERE tenant_id = :t"), {"t": tenant})
    unit.connection.execute(_STOP_BULK, {"t": tenant})


def erasure_of(connection: Connection, tenant: str) -> Any:
    """The row of a tenant's erasure, or None."""
    return connection.execute(_OF, {"t": tenant}).first()


def is_erased(connection: Connection, tenant: str) -> bool:
    """True for a tenant that is erased, or is being erased."""
    return connection.execute(_IS_ERASED, {"t": tenant}).first() is not None


def left(connection: Connection, tenant: str) -> dict[str, int]:
    """What is left of the tenant here, each counted up to 10,000."""
    return {what: connection.execute(count, {"t": tenant}).scalar_one() for what, count in _LEFT.items()}


def ask_for_all(connection: Connection, tenant: str, by: str, now: float) -> None:
    """Ask for the erasure of some jobs and sessions of the tenant."""
    for ask in _ASK:
        connection.execute(ask, {"t": tenant, "u": by, "at": now, "n": PAGE})


def erase_entries(connection: Connection, tenant: str, now: float) -> None:
    """Erase some entries of the tenant's silo."""
    for entry_id in connection.execute(_ENTRIES, {"t": tenant, "n": PAGE}).scalars().all():
        erase_entry(connection, tenant, entry_id, now)


def erase_rows(connection: Connection, tenant: str) -> None:
    """Delete every other row of the tenant. Its jobs and sessions are gone."""
    values = {"t": tenant, "p": f"{tenant}/", "yes": True}
    for statement in (*_BELOW, *(f"DELETE FROM {table} WHERE tenant_id = :t" for table in WITH_TENANT)):
        connection.execute(text(statement), {name: value for name, value in values.items() if f":{name}" in statement})


def announced(connection: Connection, tenant: str, now: float) -> None:
    """`TenantErased` is published."""
    connection.execute(text("UPDATE tenant_erasure SET announced_at = :at WHERE tenant_id = :t"), {"at": now, "t": tenant})


def end(connection: Connection, tenant: str, now: float) -> None:
    """Nothing is left."""
    connection.execute(
        text("UPDATE tenant_erasure SET state = 'done', ended_at = :at WHERE tenant_id = :t"), {"at": now, "t": tenant}
    )
    row_turns.clear(connection, KIND, tenant)


def readmit(connection: Connection, tenant: str) -> bool:
    """Admit an erased tenant again. Returns False while its erasure runs."""
    connection.execute(text("DELETE FROM tenant_erasure WHERE tenant_id = :t AND state = 'done'"), {"t": tenant})
    return not is_erased(connection, tenant)
