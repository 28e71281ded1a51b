"""Shows ends of jobs that were held back too long (`core/job_end.py`)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text

from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store import read_model as rm
from services.ingest.adapters.store import row_turns
from services.ingest.adapters.store.record_batch import LOCK
from services.ingest.core.job_end import with_held_end
from shared import clock
from shared.database.statements import exclusive
from shared.runtime.row_loop import EventWake, RowLoop, pause_after

log = logging.getLogger(__name__)
POLL_S = 5.0
RETENTION_S = 86_400.0
"""How long ends of files are kept for a job without events: its events may have left the topic before this store was created."""
_FORGET = text("DELETE FROM early_end WHERE at < :old")
KIND = "held_end"
_OVERDUE = text(
    "SELECT job_id FROM held_end WHERE due_at < :now AND (CAST(:only AS text) IS NULL OR job_id = CAST(:only AS text)) LIMIT 100"
)
_DUE = text(
    "SELECT h.job_id, j.tenant_id, coalesce(w.attempts, 0) AS attempts FROM held_end h LEFT JOIN job_view j ON j.id = h.job_id "
    "LEFT JOIN row_turn w ON w.kind = 'held_end' AND w.id = h.job_id WHERE h.due_at < :now AND coalesce(w.next_at, 0) <= :now "
    "ORDER BY h.due_at LIMIT 100"
)


def release(connection: Connection, now: float, only: str | None = None) -> list[str]:
    """Show the ends that are due at `now` (Unix seconds), or that of one job. Returns the jobs' ids."""
    exclusive(connection, LOCK)
    overdue = list(connection.execute(_OVERDUE, {"now": now, "only": only}).scalars())
    if overdue:
        records = rm.records(connection, "job_view", overdue)
        stored = {job_id: record.get("workflow") for job_id, record in records.items()}
        rm.save_jobs(connection, ((r.get("created_at") or now, with_held_end(r)) for r in records.values()), stored)
        rm.hold_ends(connection, (), overdue, now)
    return overdue


class HeldEndReleaser:
    """Looks for overdue ends every five seconds. Each job is a row of its own: one that cannot be shown delays no other."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._last_cleanup = 0.0
        wake = EventWake(asyncio.Event())
        self.loop = RowLoop("release of held ends", self._due, self._release, self._later, wake, "job_id", poll_s=POLL_S)

    async def run(self) -> None:
        """Run until cancelled."""
        await self.loop.run()

    async def _due(self) -> Sequence[Any]:
        store, now = self.gateway.store, clock.unix()
        if now - self._last_cleanup > RETENTION_S / 24:
            await store.transact(lambda c: c.execute(_FORGET, {"old": now - RETENTION_S}) and None)
            self._last_cleanup = now
        return await store.read(lambda c: c.execute(_DUE, {"now": now}).all())

    async def _release(self, row: Any) -> None:
        def show(connection: Connection) -> list[str]:
            if row.attempts:
                row_turns.clear(connection, KIND, row.job_id)
            return release(connection, clock.unix(), row.job_id)

        for job_id in await self.gateway.store.transact(show):
            log.warning("the end of a job is shown before all its file events were read", extra={"job.id": job_id})

    async def _later(self, row: Any) -> None:
        at = clock.unix() + pause_after(row.attempts + 1)
        await self.gateway.store.transact(lambda c: row_turns.set_turn(c, KIND, row.job_id, row.attempts + 1, at))
