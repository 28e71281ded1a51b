"""Puts the texts of finished files into the full-text index. Pending files are rows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store import row_turns
from services.ingest.adapters.store.search_index import enter_search, is_pending
from shared import clock
from shared.objects.access import ObjectMissing
from shared.objects.verified_reads import ObjectDamaged
from shared.runtime.row_loop import RowLoop, pause_after
from shared.runtime.wakeup import Wakeup

log = logging.getLogger(__name__)
KIND = "index"
_DUE = row_turns.fair(KIND, "index_pending", "file_id", "tenant_id", "file_id")


class Indexer:
    """Indexes pending files after each commit of this process, several at once, tenants in turn."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        wake = Wakeup()
        gateway.processor.after_commit.append(wake.set)
        # With replicas it also looks without a commit of this process, because another one may have died with pending files.
        self.loop = RowLoop(
            "indexing", self._due, self._enter, self._later, wake, "file_id", poll_s=5 if gateway.store.shared else 60
        )

    async def run(self) -> None:
        """Run until cancelled."""
        await self.loop.run()

    async def _due(self) -> Sequence[Any]:
        return await self.gateway.store.read(lambda c: row_turns.rows_due(c, _DUE, clock.unix()))

    async def _enter(self, row: Any) -> None:
        try:
            body = (await self.gateway.objects.of(row.tenant_id).get_object(row.blob)).decode("utf-8", "replace")
        except ObjectDamaged:
            raise
        except ObjectMissing as error:
            log.error("the text to index does not exist", extra={"reason": str(error)})
            body = ""

        def enter(connection: Any) -> None:
            if is_pending(connection, row):
                enter_search(connection, row, body)
            if row.attempts:
                row_turns.clear(connection, KIND, row.file_id)

        await self.gateway.store.transact(enter)

    async def _later(self, row: Any) -> None:
        at = clock.unix() + pause_after(row.attempts + 1)
        await self.gateway.store.transact(lambda c: row_turns.set_turn(c, KIND, row.file_id, row.attempts + 1, at))
