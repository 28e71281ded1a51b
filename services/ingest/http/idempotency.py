"""`Idempotency-Key`: a repeated request derives the same ids and so makes nothing new."""

from __future__ import annotations

from fastapi import Request
from sqlalchemy import Connection, text

from contracts import derived
from services.ingest.adapters.gateway import Gateway
from services.ingest.http.errors import ApiError
from shared import clock
from shared.database.statements import Statement
from shared.web.api_keys import Principal

RETENTION_S = 2 * 365.25 * 86_400
"""How long a key stands for its first request: two years."""
MAX_KEY = 200
TIDY_S = 3600.0
"""How often old keys are deleted. No index finds them, so that a key costs no second index."""
_FORGET = Statement("DELETE FROM idempotency WHERE created_at < :old")
_ENTER = Statement(
    "INSERT INTO idempotency (tenant_id, key, fingerprint, created_at) VALUES (:t, :k, :f, :at) ON CONFLICT DO NOTHING "
    "RETURNING fingerprint"
)
_MADE = text(
    "SELECT 1 FROM idempotency WHERE tenant_id = :t AND key = :k UNION ALL SELECT 1 FROM session_view WHERE id = :session AND tenant_id = :t "
    "UNION ALL SELECT 1 FROM file_view WHERE id = :file AND tenant_id = :t LIMIT 1"
)
_FINGERPRINT = Statement("SELECT fingerprint FROM idempotency WHERE tenant_id = :t AND key = :k")


def id_for(request: Request, who: Principal, role: str) -> str:
    """The id of what the request makes (`role`: "session", "file"): derived from its key, else new. Raises 400 for a bad key."""
    key = request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= MAX_KEY:
        raise ApiError(400, f"Idempotency-Key: 1 to {MAX_KEY} characters are expected", "Idempotency-Key")
    return derived(who.tenant_id, key, role) if key else clock.new_root()


async def is_repeat(request: Request, gateway: Gateway, who: Principal) -> bool:
    """True when the request's `Idempotency-Key` stands for something that the tenant has made."""
    key = request.headers.get("idempotency-key")
    if not key or len(key) > MAX_KEY:
        return False
    values = {"t": who.tenant_id, "k": key} | {role: derived(who.tenant_id, key, role) for role in ("session", "file")}
    return await gateway.store.read(lambda c: c.execute(_MADE, values).first()) is not None


def given_key(request: Request) -> str | None:
    """The request's `Idempotency-Key`, or None. Raises 400 for one that is too long."""
    key = request.headers.get("idempotency-key")
    if key is not None and len(key) > MAX_KEY:
        raise ApiError(400, f"Idempotency-Key: at most {MAX_KEY} characters", "Idempotency-Key")
    return key or None


def root_of(who: Principal, key: str) -> str:
    """The root that the ids of what a keyed request makes derive from."""
    return derived(who.tenant_id, key, "idempotency")


async def keyed_root(gateway: Gateway, who: Principal, key: str | None, body: str) -> str:
    """The root that the ids of what the request makes derive from: derived from the key, else new. Raises 409 when the key was used with another body."""
    if not key:
        return clock.new_root()
    if len(key) > MAX_KEY:
        raise ApiError(400, f"Idempotency-Key: at most {MAX_KEY} characters", "Idempotency-Key")
    fingerprint = derived(body, "fingerprint")

    def enter(connection: Connection) -> str:
        now = clock.unix()
        if now >= gateway.keys_tidied_at + TIDY_S:
            gateway.keys_tidied_at = now
            _FORGET.run(connection, {"old": now - RETENTION_S})
        new = _ENTER.rows(connection, {"t": who.tenant_id, "k": key, "f": fingerprint, "at": now})
        return str((new or _FINGERPRINT.rows(connection, {"t": who.tenant_id, "k": key}))[0][0])

    if await gateway.store.transact(enter) != fingerprint:
        raise ApiError(409, "Idempotency-Key: the key was used with another body", "Idempotency-Key")
    return root_of(who, key)
