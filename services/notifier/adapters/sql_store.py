"""Endpoints, deliveries and attempts on SQL. One row per (event, endpoint) from the moment of the match: none vanishes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Connection, Index, text
from sqlmodel import Field, SQLModel

from services.notifier.core.delivery import DeliveryState, Result, Verdict
from services.notifier.ports import Delivery
from shared.access import AccessRow
from shared.sql import Statement, exclusive

LEASE_S = 60.0
"""A claimed delivery whose process died comes back after this."""


class EndpointRow(SQLModel, table=True):
    """A webhook address. Times in Unix seconds."""

    __tablename__ = "endpoint"
    id: str = Field(primary_key=True)
    tenant_id: str = Field(index=True)
    url: str
    secret: str
    events: str
    description: str = ""
    created_at: float
    disabled_reason: str | None = None
    failing_since: float | None = None


class DeliveryRow(SQLModel, table=True):
    """One event for one endpoint. `due_at` is the next try, or the end of the lease while in flight."""

    __tablename__ = "delivery"
    endpoint_id: str = Field(primary_key=True)
    event_id: str = Field(primary_key=True)
    tenant_id: str
    event_type: str
    job_id: str | None = None
    body: bytes
    trace: str | None = None
    state: str
    reason: str | None = None
    attempt: int = 0
    due_at: float | None = None
    created_at: float
    position: int = Field(default=0, sa_type=BigInteger)
    """Order of arrival: microseconds since 1970, counted up within a batch."""
    __table_args__ = (
        Index("delivery_due", "due_at", sqlite_where=text("due_at IS NOT NULL"), postgresql_where=text("due_at IS NOT NULL")),
        Index(
            "delivery_in_flight", "endpoint_id", "job_id", sqlite_where=text("state = 'in_flight'"),
            postgresql_where=text("state = 'in_flight'"),
        ),
        Index("delivery_job", "job_id"),
    )  # fmt: skip


class AttemptRow(SQLModel, table=True):
    """One try."""

    __tablename__ = "attempt"
    id: str = Field(primary_key=True)
    endpoint_id: str
    event_id: str
    event_type: str
    job_id: str | None = None
    attempt: int
    attempted_at: float
    outcome: str
    status_code: int | None = None
    error: str | None = None
    detail: str | None = None
    duration_ms: float
    next_attempt_at: float | None = None
    __table_args__ = (Index("attempt_newest", "endpoint_id", "attempted_at"), Index("attempt_job", "job_id"))


class PendingRow(SQLModel, table=True):
    """An address that has still to be asked."""

    __tablename__ = "webhook_pending"
    command_id: str = Field(primary_key=True)
    endpoint_id: str
    tenant_id: str
    url: str
    due_at: float = Field(index=True)


MODELS: tuple[type[SQLModel], ...] = (EndpointRow, DeliveryRow, AttemptRow, PendingRow, AccessRow)


_ENDPOINTS = Statement("SELECT id, tenant_id, events, disabled_reason FROM endpoint WHERE tenant_id IN (SELECT value FROM [t])")
# One row per (endpoint, job): a job with a thousand due events must not fill the page and hide everybody else's, and while
# another replica has one of its events in flight the next one waits.
_CLAIMABLE = Statement(
    "SELECT d.*, e.url, e.secret FROM (SELECT *, row_number() OVER (PARTITION BY endpoint_id, coalesce(job_id, event_id) "
    "ORDER BY due_at, position) AS turn FROM delivery WHERE due_at <= :now AND endpoint_id NOT IN "
    "(SELECT value FROM [full])) d JOIN endpoint e ON e.id = d.endpoint_id WHERE d.turn = 1 AND NOT EXISTS (SELECT 1 FROM "
    "delivery f WHERE f.endpoint_id = d.endpoint_id AND f.job_id = d.job_id AND f.state = 'in_flight' AND f.due_at > :now) "
    "ORDER BY d.due_at, d.position LIMIT :n"
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What matching needs of an endpoint."""

    id: str
    tenant_id: str
    filters: tuple[str, ...]
    disabled: bool


def endpoints_of(connection: Connection, tenants: Iterable[str]) -> list[Endpoint]:
    """Endpoints of some tenants."""
    rows = _ENDPOINTS.run(connection, {"t": json.dumps(sorted(set(tenants)))})
    return [Endpoint(r.id, r.tenant_id, tuple(json.loads(r.events)), r.disabled_reason is not None) for r in rows]


def add_deliveries(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Enter deliveries; a pair of event and endpoint that is there already stays as it is."""
    if rows:
        connection.execute(
            text(
                "INSERT INTO delivery (endpoint_id, event_id, tenant_id, event_type, job_id, body, trace, state, reason, attempt, "
                "due_at, created_at, position) VALUES (:endpoint_id, :event_id, :tenant_id, :event_type, :job_id, :body, :trace, :state, "
                ":reason, 0, :due_at, :created_at, :position) ON CONFLICT DO NOTHING"
            ),
            rows,
        )


def next_due(connection: Connection) -> float | None:
    """Unix time at which the next delivery is due, or None."""
    value: float | None = connection.execute(text("SELECT min(due_at) FROM delivery WHERE due_at IS NOT NULL")).scalar()
    return value


def claim(
    connection: Connection, now: float, limit: int, busy: dict[str, int], per_endpoint: int, jobs: set[Any]
) -> list[Delivery]:
    """Lease due deliveries, oldest first: at most `per_endpoint` in flight each, one per (endpoint, job) for order."""
    exclusive(connection, "claim")
    full = [e for e, n in busy.items() if n >= per_endpoint]
    claimed: list[Delivery] = []
    for r in _CLAIMABLE.run(connection, {"now": now, "full": json.dumps(full), "n": limit + len(jobs)}).all():
        key = (r.endpoint_id, r.job_id or r.event_id)
        if key in jobs or busy.get(r.endpoint_id, 0) >= per_endpoint or len(claimed) >= limit:
            continue
        jobs.add(key)
        busy[r.endpoint_id] = busy.get(r.endpoint_id, 0) + 1
        claimed.append(
            Delivery(
                r.endpoint_id,
                r.event_id,
                r.tenant_id,
                r.event_type,
                r.job_id,
                r.body,
                r.trace,
                r.attempt + 1,
                r.url,
                r.secret,
            )
        )
    rows = [{"e": d.endpoint_id, "v": d.event_id, "due": now + LEASE_S} for d in claimed]
    if rows:
        connection.execute(
            text("UPDATE delivery SET state = 'in_flight', due_at = :due WHERE endpoint_id = :e AND event_id = :v"),
            rows,
        )
    return claimed


def settle(connection: Connection, delivery: Delivery, result: Result, verdict: Verdict, attempt_id: str, now: float) -> None:
    """Record an attempt and what follows from it."""
    keys = {"e": delivery.endpoint_id, "v": delivery.event_id}
    connection.execute(
        text("UPDATE delivery SET state = :s, attempt = :n, due_at = :due WHERE endpoint_id = :e AND event_id = :v"),
        {**keys, "s": verdict.state.value, "n": delivery.attempt, "due": verdict.due_at},
    )
    connection.execute(
        text(
            "INSERT INTO attempt VALUES (:id, :e, :v, :type, :job, :n, :at, :outcome, :status, :error, :detail, :ms, :next) "
            "ON CONFLICT DO NOTHING"
        ),
        {
            **keys, "id": attempt_id, "type": delivery.event_type, "job": delivery.job_id, "n": delivery.attempt, "at": now,
            "outcome": verdict.outcome, "status": result.status_code, "error": verdict.error, "detail": result.detail,
            "ms": result.duration_ms, "next": verdict.due_at,
        },
    )  # fmt: skip
    if verdict.state is DeliveryState.DELIVERED:
        connection.execute(text("UPDATE endpoint SET failing_since = NULL WHERE id = :e AND failing_since IS NOT NULL"), keys)
    else:
        connection.execute(
            text("UPDATE endpoint SET failing_since = :at WHERE id = :e AND failing_since IS NULL"), {**keys, "at": now}
        )
    if verdict.disable is not None:
        disable(connection, delivery.endpoint_id, verdict.disable)


def disable(connection: Connection, endpoint_id: str, reason: str) -> None:
    """Stop an endpoint. What is due for it is kept, visible and can be sent again when it is enabled."""
    values = {"e": endpoint_id, "r": reason}
    connection.execute(text("UPDATE endpoint SET disabled_reason = :r WHERE id = :e"), values)
    connection.execute(
        text(
            "UPDATE delivery SET state = 'suppressed', reason = 'disabled', due_at = NULL "
            "WHERE endpoint_id = :e AND state IN ('pending', 'retrying')"
        ),
        values,
    )


def enable(connection: Connection, endpoint_id: str, now: float) -> int:
    """Start it again and make everything that was held back due now; returns how much that is."""
    values = {"e": endpoint_id, "now": now}
    connection.execute(text("UPDATE endpoint SET disabled_reason = NULL, failing_since = NULL WHERE id = :e"), values)
    held = text(
        "UPDATE delivery SET state = 'pending', reason = NULL, due_at = :now WHERE endpoint_id = :e AND state = 'suppressed'"
    )
    return connection.execute(held, values).rowcount


def erase(connection: Connection, job_id: str) -> None:
    """Forget what was delivered, or was to be, of a job."""
    for table in ("delivery", "attempt"):
        connection.execute(text(f"DELETE FROM {table} WHERE job_id = :j"), {"j": job_id})
