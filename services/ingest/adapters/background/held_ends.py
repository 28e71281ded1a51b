"""Shows ends of jobs that were held back too long (`core/job_end.py`)."""

from __future__ import annotations

import asyncio
import logging

from sqlalchemy import Connection, text

from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store import read_model as rm
from services.ingest.adapters.store.record_batch import LOCK
from services.ingest.core.job_end import with_held_end
from shared import clock
from shared.database.statements import exclusive
from shared.errors import Retry

log = logging.getLogger(__name__)
POLL_S = 5.0
RETENTION_S = 86_400.0
"""How long ends of files are kept for a job without events: its events may have left the topic before this store was created."""
_FORGET = text("DELETE FROM early_end WHERE at < :old")
_OVERDUE = text("SELECT job_id FROM held_end WHERE due_at < :now LIMIT 100")


def release(connection: Connection, now: float) -> list[str]:
    """Show the ends that are due at `now` (Unix seconds). Returns the jobs' ids."""
    exclusive(connection, LOCK)
    overdue = list(connection.execute(_OVERDUE, {"now": now}).scalars())
    if overdue:
        records = rm.records(connection, "job_view", overdue)
        stored = {job_id: record.get("workflow") for job_id, record in records.items()}
        rm.save_jobs(connection, ((r.get("created_at") or now, with_held_end(r)) for r in records.values()), stored)
        rm.hold_ends(connection, (), overdue, now)
    return overdue


class HeldEndReleaser:
    """Looks for overdue ends every five seconds."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._last_cleanup = 0.0

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            try:
                await self._release_overdue()
            except Retry as error:
                log.warning("release of held ends failed, will retry", extra={"code": error.code, "reason": str(error)})
            await asyncio.sleep(POLL_S)

    async def _release_overdue(self) -> None:
        store, now = self.gateway.store, clock.unix()
        if now - self._last_cleanup > RETENTION_S / 24:
            await store.transact(lambda c: c.execute(_FORGET, {"old": now - RETENTION_S}))
            self._last_cleanup = now
        while await store.read(lambda c: c.execute(_OVERDUE, {"now": now}).first()):
            for job_id in await store.transact(lambda c: release(c, now)):
                log.warning("the end of a job is shown before all its file events were read", extra={"job.id": job_id})
