"""Puts the texts of finished files into the full-text index. Pending files are rows."""

from __future__ import annotations

import asyncio
import logging

from sqlalchemy import text

from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store.search_index import enter_search
from shared.errors import Retry
from shared.objects.object_store import ObjectMissing
from shared.runtime.wakeup import Wakeup

log = logging.getLogger(__name__)


class Indexer:
    """Indexes pending files after each commit of this process."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.wake = Wakeup()
        gateway.processor.after_commit.append(self.wake.set)

    async def run(self) -> None:
        """Run until cancelled."""
        query = text("SELECT file_id, tenant_id, file_name, blob FROM index_pending LIMIT 50")
        while True:
            self.wake.begin()
            try:
                rows = await self.gateway.store.read(lambda c: c.execute(query).all())
                for row in rows:
                    await self._enter(row)
            except Retry as error:
                log.warning("indexing failed, will retry", extra={"code": error.code, "reason": str(error)})
                await asyncio.sleep(1)
                continue
            if not rows:
                # Commits of this process wake it. With replicas it also polls, because another one may have died with pending
                # files.
                await self.wake.wait(5 if self.gateway.store.shared else None)

    async def _enter(self, row: object) -> None:
        try:
            body = (await self.gateway.objects.get_object(row.blob)).decode("utf-8", "replace")  # type: ignore[attr-defined]
        except ObjectMissing as error:
            log.error("the text to index does not exist", extra={"reason": str(error)})
            body = ""
        await self.gateway.store.transact(lambda c: enter_search(c, row, body))
