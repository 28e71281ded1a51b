"""Ends of jobs that are held back until everything of their files is here (`core/job_end.py`), and for how long at most."""

from __future__ import annotations

import asyncio
import logging

from sqlalchemy import Connection, text

from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store import read_model as rm
from services.ingest.core.job_end import whole
from shared import clock
from shared.database.statements import exclusive
from shared.errors import Retry

log = logging.getLogger(__name__)
LOOK_S = 5.0
KEPT_S = 86_400.0
"""How long ends of files are remembered whose job nothing is heard of: it may have left its topic before this store was made."""
_FORGET = text("DELETE FROM early_end WHERE at < :old")
_OVERDUE = text("SELECT job_id FROM held_end WHERE due_at < :now LIMIT 100")


def release(connection: Connection, now: float) -> list[str]:
    """Show the ends that have been held back too long; answers the jobs' ids."""
    exclusive(connection, "fold")
    overdue = list(connection.execute(_OVERDUE, {"now": now}).scalars())
    if overdue:
        records = rm.records(connection, "job_view", overdue)
        stored = {job_id: record.get("workflow") for job_id, record in records.items()}
        rm.save_jobs(connection, ((r.get("created_at") or now, whole(r)) for r in records.values()), stored, rm.recent_jobs())
        rm.hold_ends(connection, (), overdue, now)
    return overdue


class HeldEnds:
    """Looks for what is overdue, every five seconds."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._forgot = 0.0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._look()
            except Retry as error:
                log.warning("ends that are held back will be looked at again", extra={"code": error.code, "reason": str(error)})
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> None:
        store, now = self.gateway.store, clock.unix()
        if now - self._forgot > KEPT_S / 24:
            await store.transact(lambda c: c.execute(_FORGET, {"old": now - KEPT_S}))
            self._forgot = now
        while await store.read(lambda c: c.execute(_OVERDUE, {"now": now}).first()):
            for job_id in await store.transact(lambda c: release(c, now)):
                log.warning("a job's end is shown before everything of its files is here", extra={"job.id": job_id})
