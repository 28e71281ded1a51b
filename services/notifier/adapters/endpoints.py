"""What operators do with an endpoint: change, disable, rotate its secret, replay its deliveries, read its log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, text

from contracts import WebhookChanged, derived
from services.notifier.adapters import sql_store as db
from services.notifier.core.secrets import with_former
from shared import clock

REPLAYED = "replayed"
_FIND = text("SELECT * FROM endpoint WHERE id = :e AND tenant_id = :t")
_OF_TENANT = text("SELECT * FROM endpoint WHERE tenant_id = :t ORDER BY created_at")
_CHANGE = text("UPDATE endpoint SET url = :url, events = :events, description = :description WHERE id = :e")
_ROTATE = text("UPDATE endpoint SET former_secrets = :old, secret = :s WHERE id = :e")
_COUNTS = text("SELECT state, count(*) AS n, min(due_at) AS next_at FROM delivery WHERE endpoint_id = :e GROUP BY state")
_LAST_DELIVERED = text("SELECT max(attempted_at) FROM attempt WHERE endpoint_id = :e AND outcome = 'delivered'")
_LAST_FAILED = text("SELECT max(attempted_at) FROM attempt WHERE endpoint_id = :e AND outcome <> 'delivered'")
# What is under way, due or held back is sent anyway. What was not given up needs its reason to be replayed: an id, a job, a time.
_REPLAY = (
    "UPDATE delivery SET state = :state, reason = :why, due_at = :due, replayed = attempt WHERE endpoint_id = :e "
    "AND state IN ('delivered', 'exhausted', 'refused')"
)
_LOG = "SELECT * FROM attempt WHERE endpoint_id = :e"
FILTERS = {
    "outcome": "(outcome = :outcome OR :outcome = 'failed' AND outcome <> 'delivered')", "event_type": "event_type = :event_type", "event_id": "event_id = :event_id",
    "job_id": "job_id = :job_id", "since": "attempted_at >= :since", "until": "attempted_at < :until",
}  # fmt: skip
"""Filter of the log → its condition."""
WHICH = {
    "event_id": "event_id = :event_id",
    "job_id": "job_id = :job_id",
    "since": "created_at >= :since",
    "until": "created_at < :until",
}
"""Filter of a replay → its condition. `created_at` is when the event arrived here."""


def find(connection: Connection, endpoint_id: str, tenant: str) -> Any | None:
    """The endpoint's row; None where the tenant has none with this id."""
    return connection.execute(_FIND, {"e": endpoint_id, "t": tenant}).first()


def of_tenant(connection: Connection, tenant: str) -> list[Any]:
    """The tenant's endpoints, the oldest first."""
    return list(connection.execute(_OF_TENANT, {"t": tenant}).all())


def change(connection: Connection, endpoint_id: str, url: str, events: list[str], description: str) -> None:
    """Set what the endpoint receives, and where. Deliveries that wait go to the new address."""
    values = {"e": endpoint_id, "url": url, "events": json.dumps(events), "description": description}
    connection.execute(_CHANGE, values)


def add(connection: Connection, row: Mapping[str, Any]) -> None:
    """Insert an endpoint."""
    connection.execute(db.EndpointRow.__table__.insert(), dict(row))  # type: ignore[attr-defined]


def rotate(connection: Connection, endpoint: Any, secret: str, until: float, now: float) -> None:
    """Give the endpoint a new secret; the one of today signs beside it until `until`. Times are in Unix seconds."""
    old = with_former(endpoint.former_secrets, endpoint.secret, until, now)
    connection.execute(_ROTATE, {"e": endpoint.id, "s": secret, "old": old})


def state_of_deliveries(connection: Connection, endpoint_id: str) -> dict[str, Any]:
    """Number of deliveries by state, the time of the next attempt, and the times of the last delivery and the last failure."""
    rows = connection.execute(_COUNTS, {"e": endpoint_id}).all()
    due = [r.next_at for r in rows if r.state in ("pending", "retrying") and r.next_at is not None]
    return {
        "deliveries": {r.state: r.n for r in rows}, "next_attempt_at": min(due, default=None),
        "last_delivered_at": connection.execute(_LAST_DELIVERED, {"e": endpoint_id}).scalar(),
        "last_failed_at": connection.execute(_LAST_FAILED, {"e": endpoint_id}).scalar(),
    }  # fmt: skip


def replay(connection: Connection, endpoint: Any, which: Mapping[str, Any], failed: bool, now: float) -> int:
    """Make ended deliveries due again; returns how many. `which` holds values of `WHICH`; `failed` leaves out what was delivered.

    Each has all its attempts again. Those of a disabled endpoint wait until it is enabled.
    """
    held = endpoint.disabled_reason is not None
    values = {
        "e": endpoint.id, "state": "suppressed" if held else "pending", "why": "disabled" if held else REPLAYED,
        "due": None if held else now, **which,
    }  # fmt: skip
    conditions = [WHICH[name] for name in which] + (["state <> 'delivered'"] if failed else [])
    return connection.execute(text(" AND ".join([_REPLAY, *conditions])), values).rowcount


def log(connection: Connection, endpoint_id: str, filters: Mapping[str, Any], limit: int) -> list[dict[str, Any]]:
    """Attempts, newest first. `filters` holds values of `FILTERS`."""
    query = " AND ".join([_LOG, *(FILTERS[name] for name in filters)]) + " ORDER BY attempted_at DESC, id LIMIT :n"
    rows = connection.execute(text(query), {"e": endpoint_id, "n": limit, **filters}).mappings().all()
    return [dict(row) for row in rows]


def save_test(connection: Connection, row: Mapping[str, Any]) -> None:
    """Write a test's attempt into the log."""
    connection.execute(db.AttemptRow.__table__.insert(), dict(row))  # type: ignore[attr-defined]


def delete(connection: Connection, endpoint_id: str) -> None:
    """Delete the endpoint, its deliveries and its log."""
    for statement in ("attempt WHERE endpoint_id", "delivery WHERE endpoint_id", "endpoint WHERE id"):
        connection.execute(text(f"DELETE FROM {statement} = :e"), {"e": endpoint_id})


def changed(
    command_id: str, endpoint_id: str, tenant: str, verb: str, by: str, reason: str = "", said: str = ""
) -> WebhookChanged:
    """The report of an act. Texts are cut to what the contract takes."""
    return WebhookChanged(
        event_id=derived(command_id, "changed"), command_id=command_id, endpoint_id=endpoint_id, tenant_id=tenant, verb=verb,
        by=by[:500], reason=reason[:1000], message=said[:1000], occurred_at=clock.now(),
    )  # fmt: skip
