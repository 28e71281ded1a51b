"""The dispatch store in SQL. A counter is a sum over slots, one per process, so that replicas do not wait for each other's rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import BigInteger, Connection, Index, text
from sqlmodel import Field, SQLModel

from services.job_orchestrator.core.allocation import Control
from services.job_orchestrator.ports import Key, Overview, Ready, Waiting
from shared.database.bulk_statements import BulkStatement
from shared.database.statements import Statement, is_shared

GONE_S = 30 * 86_400
"""Seconds after its last sign of life until a worker is deleted."""


class ReadyRow(SQLModel, table=True):
    """An attempt that waits for a credit; less `rank` goes first."""

    __tablename__ = "ready"
    job_id: str = Field(primary_key=True)
    lane_id: str = Field(primary_key=True)
    lease: str
    action: str
    tenant_id: str
    rank: float
    since: float
    __table_args__ = (Index("ready_order", "action", "tenant_id", "rank"), {"sqlite_with_rowid": False})


class FlightRow(SQLModel, table=True):
    """Attempts in flight, by action and by tenant: one addend of the sum."""

    __tablename__ = "flight"
    kind: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    slot: int = Field(primary_key=True)
    n: int = Field(sa_type=BigInteger)
    __table_args__ = {"sqlite_with_rowid": False}


class ShareRow(SQLModel, table=True):
    """How far a tenant is in the fair order of an action that it waits for."""

    __tablename__ = "share"
    action: str = Field(primary_key=True)
    tenant_id: str = Field(primary_key=True)
    passed: float = Field(sa_column_kwargs={"name": "pass"})
    __table_args__ = {"sqlite_with_rowid": False}


class ControlRow(SQLModel, table=True):
    """What somebody set for an action or a tenant."""

    __tablename__ = "control"
    kind: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    body: str
    tokens: float | None = None
    tokens_at: float | None = None


class WorkerRow(SQLModel, table=True):
    """When a worker that takes an action was last seen."""

    __tablename__ = "worker_seen"
    action: str = Field(primary_key=True)
    worker: str = Field(primary_key=True)
    seen_at: float
    slots: int = 0


MODELS: tuple[type[SQLModel], ...] = (ReadyRow, FlightRow, ShareRow, ControlRow, WorkerRow)


_ANY = Statement("SELECT 1 FROM ready LIMIT 1")
# Skips through the index: one step per action (or tenant), however many rows there are.
_ACTIONS = text(
    "WITH RECURSIVE a(v) AS (SELECT min(action) FROM ready UNION ALL SELECT (SELECT min(action) FROM ready WHERE action > a.v) FROM a "
    "WHERE a.v IS NOT NULL) SELECT v FROM a WHERE v IS NOT NULL"
)
_TENANTS = text(
    "WITH RECURSIVE t(v) AS (SELECT min(tenant_id) FROM ready WHERE action = :action UNION ALL SELECT (SELECT min(tenant_id) FROM ready "
    "WHERE action = :action AND tenant_id > t.v) FROM t WHERE t.v IS NOT NULL) SELECT v FROM t WHERE v IS NOT NULL"
)
_SUMMARY = text("SELECT action, tenant_id, count(*) AS n, min(since) AS since FROM ready GROUP BY action, tenant_id LIMIT 2000")
_NEXT = Statement(
    "SELECT r.job_id, r.lane_id, r.lease, j.trace FROM ready r JOIN job j ON j.id = r.job_id WHERE r.action = :action AND r.tenant_id = :tenant "
    "ORDER BY r.rank, r.job_id, r.lane_id LIMIT :limit /*FOR UPDATE OF j SKIP LOCKED*/"
)
_AHEAD = text(
    "SELECT count(*) FROM (SELECT 1 FROM ready WHERE action = :action AND tenant_id = :tenant AND rank < :rank LIMIT 10000) x"
)
_ANEW = (
    "ON CONFLICT (job_id, lane_id) DO UPDATE SET lease = excluded.lease, action = excluded.action, rank = excluded.rank, "
    "since = excluded.since"
)
_ENTER = BulkStatement(
    "INSERT INTO ready (job_id, lane_id, lease, action, tenant_id, rank, since) VALUES "
    f"(:job_id, :lane_id, :lease, :action, :tenant_id, :rank, :since) {_ANEW}",
    "INSERT INTO ready (job_id, lane_id, lease, action, tenant_id, rank, since) SELECT * FROM unnest(CAST(:job_id AS text[]), "
    "CAST(:lane_id AS text[]), CAST(:lease AS text[]), CAST(:action AS text[]), CAST(:tenant_id AS text[]), "
    f"CAST(:rank AS double precision[]), CAST(:since AS double precision[])) {_ANEW}",
)
_LEAVE = BulkStatement(
    "DELETE FROM ready WHERE job_id = :job_id AND lane_id = :lane_id",
    "DELETE FROM ready USING unnest(CAST(:job_id AS text[]), CAST(:lane_id AS text[])) AS given(job_id, lane_id) "
    "WHERE ready.job_id = given.job_id AND ready.lane_id = given.lane_id",
)
_FLIGHT = Statement(
    "SELECT kind, name, sum(n) AS n FROM flight WHERE kind = 'action' OR name IN (SELECT value FROM [tenants]) GROUP BY kind, name"
)
_SUM = "ON CONFLICT (kind, name, slot) DO UPDATE SET n = flight.n + excluded.n"
_ADD = BulkStatement(
    f"INSERT INTO flight (kind, name, slot, n) VALUES (:kind, :name, :slot, :n) {_SUM}",
    "INSERT INTO flight (kind, name, slot, n) SELECT * FROM unnest(CAST(:kind AS text[]), CAST(:name AS text[]), "
    f"CAST(:slot AS integer[]), CAST(:n AS bigint[])) {_SUM}",
)
_OVERVIEW = Statement(
    "SELECT kind, name, body, tokens, tokens_at, 0 AS n FROM control UNION ALL "
    "SELECT kind, name, NULL, NULL, NULL, CAST(sum(n) AS bigint) FROM flight WHERE kind = 'action' OR "
    "name IN (SELECT name FROM control WHERE kind = 'tenant') GROUP BY kind, name UNION ALL "
    "SELECT 'ready', '', NULL, NULL, NULL, 1 WHERE EXISTS (SELECT 1 FROM ready)"
)
_SET_CONTROL = text(
    "INSERT INTO control (kind, name, body, tokens, tokens_at) VALUES (:kind, :name, :body, NULL, NULL) "
    "ON CONFLICT (kind, name) DO UPDATE SET body = excluded.body, tokens = NULL, tokens_at = NULL"
)
_TOKENS = text("UPDATE control SET tokens = :tokens, tokens_at = :at WHERE kind = :kind AND name = :name")
_SHARES = text('SELECT tenant_id, "pass" AS passed FROM share WHERE action = :action')
_SET_SHARE = text(
    'INSERT INTO share (action, tenant_id, "pass") VALUES (:action, :tenant, :passed) '
    'ON CONFLICT (action, tenant_id) DO UPDATE SET "pass" = excluded."pass"'
)
_DROP_SHARE = text("DELETE FROM share WHERE action = :action AND tenant_id = :tenant")
_SEEN = text(
    "INSERT INTO worker_seen (action, worker, seen_at, slots) VALUES (:action, :worker, :at, :slots) "
    "ON CONFLICT (action, worker) DO UPDATE SET seen_at = excluded.seen_at, slots = excluded.slots"
)
_LONG_GONE = text("DELETE FROM worker_seen WHERE seen_at < :old")
_LAST_SEEN = text("SELECT action, max(seen_at) AS at FROM worker_seen GROUP BY action")
_TRY = text("SELECT pg_try_advisory_xact_lock(hashtext(current_schema()), hashtext('grants'))")
# Branches that may be in flight: only those with a timer can be.
_COUNT = Statement(
    "SELECT j.workflow_name AS w, j.workflow_version AS v, l.body, j.body AS job FROM lane l JOIN job j ON j.id = l.job_id "
    "WHERE l.due_at IS NOT NULL"
)


class SqlDispatchStore:
    """`DispatchStore` on one connection. `slot`: the counter rows that this process writes; a counter is the sum over all slots."""

    def __init__(self, connection: Connection, slot: int) -> None:
        self.connection = connection
        self.slot = slot

    def has_ready(self) -> bool:
        return bool(_ANY.rows(self.connection))

    def ready_actions(self) -> list[str]:
        return list(self.connection.execute(_ACTIONS).scalars())

    def ready_tenants(self, action: str) -> list[str]:
        return list(self.connection.execute(_TENANTS, {"action": action}).scalars())

    def ready_summary(self) -> list[Waiting]:
        return [Waiting(*row) for row in self.connection.execute(_SUMMARY)]

    def next_ready(self, action: str, tenant: str, limit: int) -> list[Ready]:
        values = {"action": action, "tenant": tenant, "limit": limit}
        return [Ready(*row) for row in _NEXT.rows(self.connection, values)]

    def count_ahead(self, action: str, tenant: str, rank: float) -> int:
        values = {"action": action, "tenant": tenant, "rank": rank}
        return int(self.connection.execute(_AHEAD, values).scalar_one())

    def change_ready(self, entering: Sequence[dict[str, Any]], leaving: Sequence[dict[str, Any]]) -> None:
        _LEAVE.run(self.connection, leaving)
        _ENTER.run(self.connection, entering)

    def in_flight(self, tenants: Iterable[str]) -> dict[Key, int]:
        rows = _FLIGHT.rows(self.connection, {"tenants": json.dumps(list(tenants))})
        return {(kind, name): int(n) for kind, name, n in rows}

    def add_in_flight(self, deltas: Mapping[Key, int]) -> None:
        rows = [{"kind": k, "name": n, "slot": self.slot, "n": d} for (k, n), d in sorted(deltas.items()) if d]
        _ADD.run(self.connection, rows)

    def overview(self) -> Overview:
        controls: dict[Key, Control] = {}
        flight: dict[Key, int] = {}
        waits = False
        for kind, name, body, tokens, tokens_at, n in _OVERVIEW.rows(self.connection):
            if kind == "ready":
                waits = True
            elif body is None:
                flight[kind, name] = n
            else:
                controls[kind, name] = replace(Control(**json.loads(body)), tokens=tokens, tokens_at=tokens_at)
        return Overview(controls, flight, waits)

    def set_control(self, key: Key, control: Control) -> None:
        body = {k: v for k, v in asdict(control).items() if k not in ("tokens", "tokens_at")}
        self.connection.execute(_SET_CONTROL, {"kind": key[0], "name": key[1], "body": json.dumps(body)})

    def set_tokens(self, key: Key, tokens: float, at: float) -> None:
        self.connection.execute(_TOKENS, {"kind": key[0], "name": key[1], "tokens": tokens, "at": at})

    def shares(self, action: str) -> dict[str, float]:
        return {r.tenant_id: r.passed for r in self.connection.execute(_SHARES, {"action": action})}

    def set_shares(self, action: str, passed: Mapping[str, float], gone: Iterable[str]) -> None:
        if passed:
            self.connection.execute(_SET_SHARE, [{"action": action, "tenant": t, "passed": p} for t, p in passed.items()])
        rows = [{"action": action, "tenant": t} for t in gone]
        if rows:
            self.connection.execute(_DROP_SHARE, rows)

    def worker_seen(self, worker: str, actions: Iterable[str], at: float, slots: int) -> None:
        rows = [{"action": a, "worker": worker, "at": at, "slots": slots} for a in sorted(set(actions))]
        if rows:
            self.connection.execute(_SEEN, rows)
            self.connection.execute(_LONG_GONE, {"old": at - GONE_S})

    def last_seen(self) -> dict[str, float]:
        return {r.action: r.at for r in self.connection.execute(_LAST_SEEN)}

    def may_allocate(self) -> bool:
        return not is_shared(self.connection) or bool(self.connection.execute(_TRY).scalar())

    def recount_in_flight(self, count: Callable[[str, int, str, str], Iterable[Key]]) -> None:
        if is_shared(self.connection):
            # A transaction that has yet to add waits for this lock, and its branches are not among those counted here.
            self.connection.execute(text("LOCK TABLE flight IN EXCLUSIVE MODE"))
        totals: dict[Key, int] = {}
        for row in _COUNT.run(self.connection):
            for key in count(row.w, row.v, row.body, row.job):
                totals[key] = totals.get(key, 0) + 1
        self.connection.execute(text("DELETE FROM flight"))
        self.add_in_flight(totals)
