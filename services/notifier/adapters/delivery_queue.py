"""Leases due deliveries in runs, one run per (endpoint, job), so that one endpoint's backlog delays no other."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Connection, text

from services.notifier.adapters import sql_store as db
from services.notifier.core.secrets import former_secrets
from services.notifier.ports import Delivery
from shared.database.bulk_statements import BulkStatement
from shared.database.statements import Statement, exclusive

LEASE_S = 60.0
"""Lease of a claimed delivery: after a crash it becomes due again."""
RUN = 20
"""Most deliveries of one endpoint and job that are leased together and sent in order."""
RUN_BYTES = 256 << 10
"""Most body bytes in a run. It bounds the memory of a process."""
BATCH = 100
"""Most runs of one claim."""
PAGE = 1000
"""Most due deliveries of one endpoint that a claim reads."""

# One endpoint at a time, by index: the size of one backlog does not slow the others.
_WAITING = Statement(
    "SELECT id, url, secret, disabled_reason, former_secrets FROM (SELECT e.id, e.url, e.secret, e.disabled_reason, e.former_secrets, (SELECT min(d.due_at) FROM delivery d WHERE d.endpoint_id = e.id "
    "AND d.due_at IS NOT NULL) AS due FROM endpoint e WHERE e.id NOT IN (SELECT value FROM [full])) waiting "
    "WHERE due <= :now ORDER BY due"
)
_URLS = Statement("SELECT id, url FROM endpoint WHERE id IN (SELECT value FROM [e])")
# While a run of a job is in flight, at any replica, the job's other deliveries wait.
_TURNS = Statement(
    "SELECT event_id, job_id, position, due_at, length(body) AS size FROM delivery d WHERE endpoint_id = :e AND due_at <= :now AND coalesce(job_id, event_id) "
    "NOT IN (SELECT value FROM [busy]) AND NOT EXISTS (SELECT 1 FROM delivery f WHERE f.endpoint_id = d.endpoint_id AND "
    "f.job_id = d.job_id AND f.state = 'in_flight' AND f.due_at > :now) ORDER BY due_at, position LIMIT :n"
)
# It leases and reads in one statement. A delivery that another replica settled or deleted since it was chosen is left out.
_LEASED = Statement(
    "UPDATE delivery SET state = 'in_flight', due_at = :due WHERE endpoint_id = :e AND event_id IN (SELECT value FROM [v]) "
    "AND due_at <= :now RETURNING *"
)
_RELEASED = BulkStatement(
    "UPDATE delivery SET state = :s, due_at = :due WHERE endpoint_id = :e AND event_id = :v AND state = 'in_flight' AND due_at = :lease",
    "UPDATE delivery SET state = given.s, due_at = given.due FROM unnest(CAST(:e AS text[]), CAST(:v AS text[]), CAST(:s AS text[]), "
    "CAST(:due AS double precision[]), CAST(:lease AS double precision[])) AS given(e, v, s, due, lease) "
    "WHERE endpoint_id = given.e AND event_id = given.v AND state = 'in_flight' AND due_at = given.lease",
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


def address_of(url: str) -> str:
    """Host and port of a webhook's URL, as the limit per address counts them."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()


@dataclass(frozen=True, slots=True)
class Limits:
    """Most runs in flight: in all, per endpoint, and per address (host and port), which several endpoints may share.

    A slow receiver delays no other: an endpoint with nothing in flight gets a place at a full address, and of `reserved` ones.
    """

    in_flight: int
    per_endpoint: int
    per_address: int
    reserved: int


class _Places:
    """Places that are free, counted down while runs are claimed."""

    def __init__(self, limits: Limits, busy: Collection[Job], urls: dict[str, str]) -> None:
        self.limits = limits
        self.free = limits.in_flight - len(busy)
        self.of_endpoint = Counter(endpoint for endpoint, _ in busy)
        self.of_address = Counter(address_of(urls[endpoint]) for endpoint, _ in busy if endpoint in urls)

    def room(self, endpoint: str, url: str) -> int:
        """Runs that the endpoint may begin."""
        limits, taken = self.limits, self.of_endpoint[endpoint]
        room = min(
            limits.per_endpoint - taken, limits.per_address - self.of_address[address_of(url)], self.free - limits.reserved
        )
        return min(self.free, max(room, 0 if taken else 1))

    def take(self, endpoint: str, url: str, count: int) -> None:
        """Count runs that begin."""
        self.free -= count
        self.of_endpoint[endpoint] += count
        self.of_address[address_of(url)] += count


def claim(connection: Connection, now: float, limits: Limits, busy: Collection[Job]) -> list[Run]:
    """Lease due deliveries in runs, at most `BATCH`, the longest-waiting endpoint first, each job's events in order.

    The `busy` runs count toward the limits. Deliveries of a disabled endpoint are held back. `now` is in Unix seconds.
    """
    exclusive(connection, "claim")
    by_endpoint: dict[str, set[str]] = {}
    for endpoint, job in busy:
        by_endpoint.setdefault(endpoint, set()).add(job)
    urls = {r.id: r.url for r in _URLS.run(connection, {"e": json.dumps(sorted(by_endpoint))})} if busy else {}
    places = _Places(limits, busy, urls)
    full = [endpoint for endpoint, jobs in by_endpoint.items() if len(jobs) >= limits.per_endpoint]
    runs: list[Run] = []
    # No limit here: many waiting endpoints may have only busy jobs.
    for r in _WAITING.run(connection, {"now": now, "full": json.dumps(full)}).all():
        if r.disabled_reason is not None:
            db.hold_back(connection, [r.id], now)
            continue
        if len(runs) >= BATCH or places.free <= 0:
            break
        room = min(places.room(r.id, r.url), BATCH - len(runs))
        made = _of_endpoint(connection, r, now, room, by_endpoint.get(r.id, set())) if room > 0 else []
        places.take(r.id, r.url, len(made))
        runs += made
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
    old = tuple(secret for secret, _ in former_secrets(endpoint.former_secrets, now))
    former = {r.event_id: r.due_at for rows in turns.values() for r in rows}
    leased = {
        "e": endpoint.id,
        "v": json.dumps([event for events in chosen for event in events]),
        "due": now + LEASE_S,
        "now": now,
    }
    found = {
        r.event_id: Delivery(
            r.endpoint_id, r.event_id, r.tenant_id, r.event_type, r.job_id, r.body, r.trace, r.attempt + 1, endpoint.url,
            endpoint.secret, former[r.event_id], r.due_at, old, r.replayed or 0,
        )
        for r in _LEASED.run(connection, leased).all()
    }  # fmt: skip
    runs = ([found[event] for event in events if event in found] for events in chosen)
    return [run for run in runs if run]


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
    """Release leased deliveries that were not attempted. They are due at their former time.

    A later lease stays: the release may be repeated, or late, while another replica sends.
    """
    rows = [
        {
            "s": "retrying" if d.attempt > 1 else "pending",
            "due": d.due_at,
            "lease": d.leased_until,
            "e": d.endpoint_id,
            "v": d.event_id,
        }
        for d in deliveries
    ]
    _RELEASED.run(connection, rows)
