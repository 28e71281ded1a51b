"""Deletes objects of erased jobs, and erases jobs whose retention has passed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3

from sqlalchemy import text

from contracts import EraseJob, Tenancy, derived
from contracts.topics import JOB_COMMANDS_TOPIC
from services.ingest.adapters.gateway import Gateway
from shared import clock
from shared.errors import Retry

log = logging.getLogger(__name__)
SWEEP_S = 600.0
PAGE = 200
_DOOMED = text(
    "SELECT d.blob, EXISTS (SELECT 1 FROM blob_ref r WHERE r.blob = d.blob) AS needed FROM blob_doomed d ORDER BY d.blob LIMIT 100"
)
_DONE = text("DELETE FROM blob_doomed WHERE blob = :blob")
_OLD = text(
    "SELECT j.id, j.tenant_id FROM job_view j JOIN retention r ON r.tenant_id = j.tenant_id WHERE j.created_at < :now - r.days * 86400 "
    "AND j.stage IN ('completed', 'failed', 'invalid', 'cancelled') AND j.stage_since < :now - r.days * 86400 ORDER BY j.created_at LIMIT :n"
)


class RetentionSweeper:
    """Deletes objects after each erasure, and looks for expired jobs every ten minutes."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._wake = asyncio.Event()
        gateway.processor.after_commit.append(self._wake.set)

    async def run(self) -> None:
        """Run until cancelled."""
        swept = 0.0
        while True:
            self._wake.clear()
            try:
                await self._delete()
                if clock.unix() - swept > SWEEP_S or self.gateway.retention_wake.is_set():
                    self.gateway.retention_wake.clear()
                    await self._sweep()
                    swept = clock.unix()
            except Retry as error:
                log.warning("erasure failed, will retry", extra={"code": error.code, "reason": str(error)})
            await asyncio.sleep(1)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), SWEEP_S)

    async def _delete(self) -> None:
        store, deleted = self.gateway.store, False
        while rows := await store.read(lambda c: c.execute(_DOOMED).all()):
            for row in rows:
                if not row.needed:
                    await self.gateway.objects.delete_object(row.blob)
                await store.transact(lambda c, b=row.blob: c.execute(_DONE, {"blob": b}))  # type: ignore[misc]
            deleted = True
        if deleted and not store.shared and sqlite3.sqlite_version_info < (3, 42):
            # Without `secure-delete` (see the migration) the index keeps deleted words until its segments are merged.
            await store.transact(lambda c: c.execute(text("INSERT INTO search (search) VALUES ('optimize')")))

    async def _sweep(self) -> None:
        rows = await self.gateway.store.read(lambda c: c.execute(_OLD, {"now": clock.unix(), "n": PAGE}).all())
        for row in rows:
            owner = Tenancy(tenant_id=row.tenant_id, user_name="retention")
            command = EraseJob(
                command_id=derived(row.id, "retention"), job_id=row.id, owner=owner, issued_at=clock.now(), reason="retention"
            )
            await self.gateway.publisher.publish_command(JOB_COMMANDS_TOPIC.name, command, None)
        if len(rows) == PAGE:
            self.gateway.retention_wake.set()
