"""Endpoints, deliveries and attempts on SQL. Every matching (event, endpoint) pair is a row, so no delivery is lost."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Connection, Index, text
from sqlmodel import Field, SQLModel

from services.notifier.core.delivery import DeliveryState
from services.notifier.core.shapes import Shape
from services.notifier.ports import Attempt
from shared.database.bulk_statements import BulkStatement
from shared.database.columns import only_where
from shared.database.statements import Statement
from shared.web.api_keys import AccessRow


class EndpointRow(SQLModel, table=True):
    """A webhook endpoint. Times are in Unix seconds."""

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
    shape: str | None = None
    """A `Shape`. Rows of a previous release have none, which is `typed`."""
    former_secrets: str | None = None
    """Secrets before rotations and the ends of their time, as `core/secrets.py` writes them."""


class DeliveryRow(SQLModel, table=True):
    """One event for one endpoint. `due_at` is the time of the next attempt, or the end of the lease while in flight."""

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
    """Order of arrival: microseconds since 1970, incremented within a batch."""
    session_id: str | None = None
    """Of a session's event, which may name files. Rows of a previous release have none."""
    replayed: int | None = None
    """Attempts before the last replay. They count no more."""
    __table_args__ = (
        Index("delivery_due", "due_at", **only_where("due_at IS NOT NULL")),
        Index(
            "delivery_turn", "endpoint_id", "due_at", "position", **only_where("due_at IS NOT NULL")
        ),
        Index(
            "delivery_in_flight", "endpoint_id", "job_id", **only_where("state = 'in_flight'")
        ),
        Index("delivery_job", "job_id"),
        Index("delivery_session", "session_id", **only_where("session_id IS NOT NULL")),
    )  # fmt: skip


class AttemptRow(SQLModel, table=True):
    """One delivery attempt."""

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
    """An address whose verification is pending."""

    __tablename__ = "webhook_pending"
    command_id: str = Field(primary_key=True)
    endpoint_id: str
    tenant_id: str
    url: str
    due_at: float = Field(index=True)
    shape: str | None = None
    """That of the endpoint. Rows of a previous release have none, which is `alfred`."""


class ActRow(SQLModel, table=True):
    """An act of an operator, with its answer for a repeated request."""

    __tablename__ = "webhook_act"
    command_id: str = Field(primary_key=True)
    tenant_id: str
    endpoint_id: str
    fingerprint: str
    answer: str
    at: float = Field(index=True)


MODELS: tuple[type[SQLModel], ...] = (EndpointRow, DeliveryRow, AttemptRow, PendingRow, ActRow, AccessRow)


_ENDPOINTS = Statement(
    "SELECT id, tenant_id, events, disabled_reason, shape FROM endpoint WHERE tenant_id IN (SELECT value FROM [t])"
)
_STANDING = Statement("SELECT id, failing_since, disabled_reason FROM endpoint WHERE id IN (SELECT value FROM [e])")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The part of an endpoint that matching needs."""

    id: str
    tenant_id: str
    filters: tuple[str, ...]
    disabled: bool
    shape: Shape = Shape.TYPED


def endpoints_of(connection: Connection, tenants: Iterable[str]) -> list[Endpoint]:
    """The endpoints of the given tenants."""
    rows = _ENDPOINTS.run(connection, {"t": json.dumps(sorted(set(tenants)))})
    return [
        Endpoint(r.id, r.tenant_id, tuple(json.loads(r.events)), r.disabled_reason is not None, Shape(r.shape or Shape.TYPED))
        for r in rows
    ]


_TENANTS = Statement("SELECT DISTINCT tenant_id FROM endpoint")


def tenants(connection: Connection) -> set[bytes | None]:
    """Tenants with an endpoint, encoded as in the header `ce_tenant`; plus None, for records without that header."""
    return {None, *(r.tenant_id.encode() for r in _TENANTS.run(connection))}


_DELIVERY = BulkStatement(
    "INSERT INTO delivery (endpoint_id, event_id, tenant_id, event_type, job_id, session_id, body, trace, state, reason, attempt, "
    "due_at, created_at, position) VALUES (:endpoint_id, :event_id, :tenant_id, :event_type, :job_id, :session_id, :body, :trace, :state, "
    ":reason, 0, :due_at, :created_at, :position) ON CONFLICT DO NOTHING",
    "INSERT INTO delivery (attempt, endpoint_id, event_id, tenant_id, event_type, job_id, session_id, body, trace, state, reason, "
    "due_at, created_at, position) SELECT 0, * FROM unnest(CAST(:endpoint_id AS text[]), CAST(:event_id AS text[]), "
    "CAST(:tenant_id AS text[]), CAST(:event_type AS text[]), CAST(:job_id AS text[]), CAST(:session_id AS text[]), CAST(:body AS bytea[]), "
    "CAST(:trace AS text[]), CAST(:state AS text[]), CAST(:reason AS text[]), CAST(:due_at AS double precision[]), "
    "CAST(:created_at AS double precision[]), CAST(:position AS bigint[])) ON CONFLICT DO NOTHING",
)


def add_deliveries(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Insert deliveries. An existing (endpoint, event) pair stays unchanged."""
    _DELIVERY.run(connection, [{"session_id": None, **row} for row in rows])


def standing(connection: Connection, endpoints: Iterable[str]) -> dict[str, tuple[float | None, bool]]:
    """Endpoint id → (start of its failures in Unix seconds or None, disabled); deleted endpoints are missing."""
    rows = _STANDING.run(connection, {"e": json.dumps(sorted(set(endpoints)))})
    return {r.id: (r.failing_since, r.disabled_reason is not None) for r in rows}


# A failure counts under its own lease alone: recorded late, or a second time, it would end the lease of another replica that sends.
_SETTLED = BulkStatement(
    "UPDATE delivery SET state = :s, reason = :why, attempt = :n, due_at = :due WHERE endpoint_id = :e AND event_id = :v "
    "AND (state = 'in_flight' AND due_at = :lease OR :s = 'delivered')",
    "UPDATE delivery SET state = given.s, reason = given.why, attempt = given.n, due_at = given.due FROM unnest(CAST(:e AS text[]), "
    "CAST(:v AS text[]), CAST(:s AS text[]), CAST(:why AS text[]), CAST(:n AS integer[]), CAST(:due AS double precision[]), "
    "CAST(:lease AS double precision[])) AS given(e, v, s, why, n, due, lease) WHERE endpoint_id = given.e AND event_id = given.v "
    "AND (delivery.state = 'in_flight' AND delivery.due_at = given.lease OR given.s = 'delivered')",
)
_ATTEMPT = BulkStatement(
    "INSERT INTO attempt (id, endpoint_id, event_id, event_type, job_id, attempt, attempted_at, outcome, status_code, error, detail, "
    "duration_ms, next_attempt_at) VALUES (:id, :e, :v, :type, :job, :n, :at, :outcome, :status, :error, :detail, :ms, :next) "
    "ON CONFLICT DO NOTHING",
    "INSERT INTO attempt (id, endpoint_id, event_id, event_type, job_id, attempt, attempted_at, outcome, status_code, error, detail, "
    "duration_ms, next_attempt_at) SELECT * FROM unnest(CAST(:id AS text[]), CAST(:e AS text[]), CAST(:v AS text[]), "
    "CAST(:type AS text[]), CAST(:job AS text[]), CAST(:n AS integer[]), CAST(:at AS double precision[]), CAST(:outcome AS text[]), "
    "CAST(:status AS integer[]), CAST(:error AS text[]), CAST(:detail AS text[]), CAST(:ms AS double precision[]), "
    "CAST(:next AS double precision[])) ON CONFLICT DO NOTHING",
)
_FAILING = BulkStatement(
    "UPDATE endpoint SET failing_since = :at WHERE id = :e",
    "UPDATE endpoint SET failing_since = given.at FROM unnest(CAST(:e AS text[]), CAST(:at AS double precision[])) "
    "AS given(e, at) WHERE id = given.e",
)


def save_attempts(connection: Connection, attempts: Sequence[Attempt]) -> None:
    """Insert attempts and update their deliveries. Deliveries that were deleted meanwhile stay deleted."""
    rows = [
        {
            "e": a.delivery.endpoint_id, "v": a.delivery.event_id, "s": a.verdict.state.value, "n": a.delivery.attempt,
            "why": "disabled" if a.verdict.state is DeliveryState.SUPPRESSED else None,
            "due": a.verdict.due_at, "lease": a.delivery.leased_until, "id": a.id, "type": a.delivery.event_type, "job": a.delivery.job_id, "at": a.started,
            "outcome": a.verdict.outcome, "status": a.result.status_code, "error": a.verdict.error, "detail": a.result.detail,
            "ms": a.result.duration_ms, "next": a.verdict.due_at,
        }
        for a in attempts
    ]  # fmt: skip
    _SETTLED.run(connection, rows)
    _ATTEMPT.run(connection, rows)
    for attempt in attempts:
        if attempt.verdict.disable is not None:
            disable(connection, attempt.delivery.endpoint_id, attempt.verdict.disable)


def mark_failing(connection: Connection, since: dict[str, float | None]) -> None:
    """Set the start of each endpoint's failures in Unix seconds; None after a success."""
    _FAILING.run(connection, [{"e": endpoint, "at": at} for endpoint, at in since.items()])


def disable(connection: Connection, endpoint_id: str, reason: str) -> None:
    """Disable an endpoint. Its due deliveries are kept as suppressed and are sent when it is enabled again."""
    connection.execute(text("UPDATE endpoint SET disabled_reason = :r WHERE id = :e"), {"e": endpoint_id, "r": reason})
    hold_back(connection, [endpoint_id])


_HELD_BACK = text(
    "UPDATE delivery SET state = 'suppressed', reason = 'disabled', due_at = NULL WHERE endpoint_id = :e "
    "AND (state IN ('pending', 'retrying') OR state = 'in_flight' AND due_at <= :now)"
)


def hold_back(connection: Connection, endpoints: Iterable[str], now: float = 0.0) -> None:
    """Suppress the due deliveries of disabled endpoints, with those whose lease ended before `now` (Unix seconds)."""
    for endpoint in sorted(endpoints):
        connection.execute(_HELD_BACK, {"e": endpoint, "now": now})


def enable(connection: Connection, endpoint_id: str, now: float) -> int:
    """Enable an endpoint and make its suppressed deliveries due now; returns their number."""
    values = {"e": endpoint_id, "now": now}
    connection.execute(text("UPDATE endpoint SET disabled_reason = NULL, failing_since = NULL WHERE id = :e"), values)
    held = text(
        "UPDATE delivery SET state = 'pending', reason = NULL, due_at = :now WHERE endpoint_id = :e AND state = 'suppressed'"
    )
    return connection.execute(held, values).rowcount
