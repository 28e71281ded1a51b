"""Enters the text of finished files into the full-text index. What is pending lies in the store."""

from __future__ import annotations

import asyncio
import logging

from sqlalchemy import text

from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store.search_index import enter_search
from shared.errors import Retry
from shared.objects.object_store import ObjectMissing
from shared.runtime.service import Host
from shared.runtime.wakeup import Wakeup

log = logging.getLogger(__name__)


class Indexer:
    """Enters the text of finished files into the full-text index; what is pending lies in the store."""

    def __init__(self, host: Host, gateway: Gateway) -> None:
        self.host = host
        self.gateway = gateway
        self.wake = Wakeup()

    async def run(self) -> None:
        """Until cancelled."""
        query = text("SELECT file_id, tenant_id, file_name, blob FROM index_pending LIMIT 50")
        while True:
            self.wake.begin()
            try:
                rows = await self.host.store.read(lambda c: c.execute(query).all())
                for row in rows:
                    await self._enter(row)
            except Retry as error:
                log.warning("indexing will be tried again", extra={"code": error.code, "reason": str(error)})
                await asyncio.sleep(1)
                continue
            if not rows:
                # Woken by our own commits; another replica may have died with rows of its own.
                await self.wake.wait(5 if self.host.store.shared else None)

    async def _enter(self, row: object) -> None:
        try:
            body = (await self.gateway.objects.get_object(row.blob)).decode("utf-8", "replace")  # type: ignore[attr-defined]
        except ObjectMissing as error:
            log.error("text for the index is gone", extra={"reason": str(error)})
            body = ""
        await self.host.store.transact(lambda c: enter_search(c, row, body))
