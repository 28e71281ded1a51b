"""Leases due deliveries in runs, one run per (endpoint, job), so that one endpoint's backlog delays no other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text

from services.notifier.ports import Delivery
from shared.database.bulk_statements import BulkStatement
from shared.database.statements import Statement, exclusive

LEASE_S = 60.0
"""Lease of a claimed delivery: after a crash it becomes due again."""
RUN = 20
"""Most deliveries of one endpoint and job that are leased together and sent in order."""
RUN_BYTES = 256 << 10
"""Most body bytes in a run. It bounds the memory of a process."""
PAGE = 1000
"""Most due deliveries of one endpoint that a claim reads."""

# One endpoint at a time, by index: the size of one backlog does not slow the others.
_WAITING = Statement(
    "SELECT id, url, secret FROM (SELECT e.id, e.url, e.secret, (SELECT min(d.due_at) FROM delivery d WHERE d.endpoint_id = e.id "
    "AND d.due_at IS NOT NULL) AS due FROM endpoint e WHERE e.id NOT IN (SELECT value FROM [full])) waiting "
    "WHERE due <= :now ORDER BY due"
)
# While a run of a job is in flight, at any replica, the job's other deliveries wait.
_TURNS = Statement(
    "SELECT event_id, job_id, position, length(body) AS size FROM delivery d WHERE endpoint_id = :e AND due_at <= :now AND coalesce(job_id, event_id) "
    "NOT IN (SELECT value FROM [busy]) AND NOT EXISTS (SELECT 1 FROM delivery f WHERE f.endpoint_id = d.endpoint_id AND "
    "f.job_id = d.job_id AND f.state = 'in_flight' AND f.due_at > :now) ORDER BY due_at, position LIMIT :n"
)
_BODIES = Statement("SELECT * FROM delivery WHERE endpoint_id = :e AND event_id IN (SELECT value FROM [v])")
_LEASED = Statement(
    "UPDATE delivery SET state = 'in_flight', due_at = :due WHERE endpoint_id = :e AND event_id IN (SELECT value FROM [v])"
)
_RELEASED = BulkStatement(
    "UPDATE delivery SET state = :s, due_at = :due WHERE endpoint_id = :e AND event_id = :v AND state = 'in_flight'",
    "UPDATE delivery SET state = given.s, due_at = given.due FROM unnest(CAST(:e AS text[]), CAST(:v AS text[]), CAST(:s AS text[]), "
    "CAST(:due AS double precision[])) AS given(e, v, s, due) "
    "WHERE endpoint_id = given.e AND event_id = given.v AND state = 'in_flight'",
)
Job = tuple[str, str]
"""(Endpoint id, job id); the event id stands in for a missing job id."""
Run = list[Delivery]


def next_due(connection: Connection) -> float | None:
    """Unix time at which the next delivery is due, or None."""
    value: float | None = connection.execute(text("SELECT min(due_at) FROM delivery WHERE due_at IS NOT NULL")).scalar()
    return value


def job_of(delivery: Delivery) -> Job:
    """The unit whose deliveries are sent in order."""
    return delivery.endpoint_id, delivery.job_id or delivery.event_id


def claim(connection: Connection, now: float, limit: int, busy: set[Job], per_endpoint: int) -> list[Run]:
    """Lease due deliveries in at most `limit` runs, the longest-waiting endpoint first, each job's events in order.

    An endpoint has at most `per_endpoint` runs, including its `busy` ones. `now` is in Unix seconds.
    """
    exclusive(connection, "claim")
    places: dict[str, set[str]] = {}
    for endpoint, job in busy:
        places.setdefault(endpoint, set()).add(job)
    full = [endpoint for endpoint, jobs in places.items() if len(jobs) >= per_endpoint]
    runs: list[Run] = []
    # No limit here: many waiting endpoints may have only busy jobs.
    for r in _WAITING.run(connection, {"now": now, "full": json.dumps(full)}).all():
        if len(runs) >= limit:
            break
        taken = places.get(r.id, set())
        runs += _of_endpoint(connection, r, now, min(limit - len(runs), per_endpoint - len(taken)), taken)
    return runs


def _of_endpoint(connection: Connection, endpoint: Any, now: float, room: int, busy: set[str]) -> list[Run]:
    values = {"e": endpoint.id, "now": now, "busy": json.dumps(sorted(busy)), "n": PAGE}
    turns: dict[str, list[Any]] = {}
    for r in _TURNS.run(connection, values).all():
        job = r.job_id or r.event_id
        if job in turns or len(turns) < room:
            turns.setdefault(job, []).append(r)
    chosen = [_first_of(rows) for rows in turns.values()]
    if not chosen:
        return []
    ids = {"e": endpoint.id, "v": json.dumps([event for events in chosen for event in events]), "due": now + LEASE_S}
    found = {
        r.event_id: Delivery(
            r.endpoint_id, r.event_id, r.tenant_id, r.event_type, r.job_id, r.body, r.trace, r.attempt + 1, endpoint.url,
            endpoint.secret, r.due_at,
        )
        for r in _BODIES.run(connection, {"e": ids["e"], "v": ids["v"]}).all()
    }  # fmt: skip
    _LEASED.run(connection, ids)
    return [[found[event] for event in events] for events in chosen]


def _first_of(rows: Sequence[Any]) -> list[str]:
    # By position, not by due time: a delivery whose lease ended is due late but must go first.
    run: list[str] = []
    space = RUN_BYTES
    for r in sorted(rows, key=lambda r: r.position)[:RUN]:
        if run and r.size > space:
            break
        run.append(r.event_id)
        space -= r.size
    return run


def release(connection: Connection, deliveries: Sequence[Delivery]) -> None:
    """Release leased deliveries that were not attempted. They are due at their former time."""
    rows = [
        {
            "s": "retrying" if d.attempt > 1 else "pending",
            "due": d.due_at,
            "e": d.endpoint_id,
            "v": d.event_id,
        }
        for d in deliveries
    ]
    _RELEASED.run(connection, rows)
