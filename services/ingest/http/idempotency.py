"""`Idempotency-Key`: a repeated request derives the same ids and so makes nothing new."""

from __future__ import annotations

from fastapi import Request
from sqlalchemy import Connection, text

from contracts import derived
from services.ingest.adapters.gateway import Gateway
from services.ingest.http.errors import ApiError
from shared import clock
from shared.web.api_keys import Principal

RETENTION_S = 2 * 365.25 * 86_400
"""How long a key stands for its first request: two years."""
MAX_KEY = 200
_FORGET = text("DELETE FROM idempotency WHERE created_at < :old")
_ENTER = text("INSERT INTO idempotency VALUES (:t, :k, :f, :at) ON CONFLICT DO NOTHING")
_FINGERPRINT = text("SELECT fingerprint FROM idempotency WHERE tenant_id = :t AND key = :k")


def id_for(request: Request, who: Principal, role: str) -> str:
    """The id of what the request makes (`role`: "session", "file"): derived from its key, else new. Raises 400 for a bad key."""
    key = request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= MAX_KEY:
        raise ApiError(400, f"Idempotency-Key: 1 to {MAX_KEY} characters are expected", "Idempotency-Key")
    return derived(who.tenant_id, key, role) if key else clock.new_root()


async def job_root(gateway: Gateway, who: Principal, key: str | None, body: str) -> str:
    """The root that a job's ids derive from: derived from the key, else new. Raises 409 when the key was used with another body."""
    if not key:
        return clock.new_root()
    if len(key) > MAX_KEY:
        raise ApiError(400, f"Idempotency-Key: at most {MAX_KEY} characters", "Idempotency-Key")
    fingerprint = derived(body, "fingerprint")

    def enter(connection: Connection) -> str:
        values = {"t": who.tenant_id, "k": key, "f": fingerprint, "at": clock.unix()}
        connection.execute(_FORGET, {"old": clock.unix() - RETENTION_S})
        connection.execute(_ENTER, values)
        return str(connection.execute(_FINGERPRINT, {"t": who.tenant_id, "k": key}).scalar_one())

    if await gateway.store.transact(enter) != fingerprint:
        raise ApiError(409, "Idempotency-Key: the key was used with another body", "Idempotency-Key")
    return derived(who.tenant_id, key, "idempotency")
