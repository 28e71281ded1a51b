"""Erases jobs and sessions whose retention has passed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, text

from contracts import EraseJob, EraseSession, Tenancy, derived
from contracts.topics import SESSION_COMMANDS_TOPIC, command_topic
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store import row_turns
from shared import clock
from shared.runtime.row_loop import EventWake, RowLoop, pause_after

KIND = "retention"
SWEEP_S = 600.0
AGAIN_S = 600.0
"""Seconds until a job is tried again that is still there, doubled each time."""
PAGE = 200
# A job that could not be erased has its next turn later, so that it does not stand before the others.
_OLD = text(
    "SELECT * FROM (SELECT j.id, j.tenant_id, coalesce(w.attempts, 0) AS attempts, row_number() OVER (PARTITION BY j.tenant_id "
    "ORDER BY j.created_at) AS place FROM job_view j JOIN retention r ON r.tenant_id = j.tenant_id "
    "LEFT JOIN row_turn w ON w.kind = 'retention' AND w.id = j.id WHERE j.created_at < :now - r.days * 86400 "
    "AND j.stage IN ('completed', 'failed', 'invalid', 'cancelled') AND j.stage_since < :now - r.days * 86400 "
    "AND coalesce(w.next_at, 0) <= :now) expired ORDER BY place, tenant_id LIMIT :n"
)
EXPIRED_S = 7 * 86_400.0
"""Seconds that an expired session is kept at most: nobody can use it any more."""
ABANDONED_S = 86_400.0
"""Seconds that an open session is kept at least after its newest file, however short the retention."""
_UNUSED = text(
    "SELECT * FROM (SELECT s.id, s.tenant_id, coalesce(w.attempts, 0) AS attempts, row_number() OVER (PARTITION BY s.tenant_id "
    "ORDER BY s.changed_at) AS place FROM session_view s LEFT JOIN retention r ON r.tenant_id = s.tenant_id "
    "LEFT JOIN row_turn w ON w.kind = 'retention' AND w.id = s.id WHERE s.status IN ('open', 'expired') AND s.changed_at <= :now "
    "AND ((s.status = 'expired' AND s.changed_at < :now - CASE WHEN r.days * 86400 < :expired THEN r.days * 86400 ELSE :expired END) "
    "OR (s.status = 'open' AND s.changed_at < :now - r.days * 86400 AND s.changed_at < :now - :abandoned)) "
    "AND coalesce(w.next_at, 0) <= :now) unused ORDER BY place, tenant_id LIMIT :n"
)


def unused_sessions(connection: Connection, now: float) -> Sequence[Any]:
    """Sessions to erase: expired ones, and open ones of tenants with a retention to which nothing was added for as long."""
    return connection.execute(_UNUSED, {"now": now, "expired": EXPIRED_S, "abandoned": ABANDONED_S, "n": PAGE}).all()


@dataclass(frozen=True, slots=True)
class Old:
    """A job or session to erase, and how often that was asked for."""

    kind: Literal["job", "session"]
    id: str
    tenant_id: str
    attempts: int


class RetentionSweeper:
    """Looks for expired jobs and sessions every ten minutes, and when a retention was changed. Takes tenants in turn."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        wake = EventWake(gateway.retention_wake)
        self.loop = RowLoop("retention", self.due, self.erase, self._later, wake, "id", poll_s=SWEEP_S)

    async def run(self) -> None:
        """Run until cancelled."""
        await self.loop.run()

    async def due(self) -> Sequence[Any]:
        """Expired jobs and sessions whose turn has come."""
        now = clock.unix()
        jobs = await self.gateway.store.read(lambda c: c.execute(_OLD, {"now": now, "n": PAGE}).all())
        sessions = await self.gateway.store.read(lambda c: unused_sessions(c, now))
        return [Old("job", r.id, r.tenant_id, r.attempts) for r in jobs] + [
            Old("session", r.id, r.tenant_id, r.attempts) for r in sessions
        ]

    async def erase(self, row: Old) -> None:
        """Ask for the erasure of a job or session. If it is still there later, it is asked for again."""
        # Each try is a command of its own: a repeat of the same one would not be decided again.
        command_id = derived(row.id, "retention", row.attempts) if row.attempts else derived(row.id, "retention")
        owner = Tenancy(tenant_id=row.tenant_id, user_name="retention")
        common: dict[str, Any] = {"command_id": command_id, "owner": owner, "issued_at": clock.now(), "reason": "retention"}
        # Written first, so that the erasure finds it and deletes it too.
        await self._next(row, AGAIN_S * 2.0 ** min(row.attempts, 10))
        if row.kind == "session":
            await self.gateway.publisher.publish_command(
                SESSION_COMMANDS_TOPIC.name, EraseSession(session_id=row.id, **common), None
            )
        else:
            command = EraseJob(job_id=row.id, **common)
            await self.gateway.publisher.publish_command(command_topic(command).name, command, None)

    async def _later(self, row: Old) -> None:
        await self._next(row, pause_after(row.attempts + 1))

    async def _next(self, row: Old, after_s: float) -> None:
        at = clock.unix() + after_s
        await self.gateway.store.transact(lambda c: row_turns.set_turn(c, KIND, row.id, row.attempts + 1, at))
