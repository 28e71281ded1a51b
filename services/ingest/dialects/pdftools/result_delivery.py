"""Delivers results: to the URL of a connection, or to the folders of a watched folder. Due deliveries are rows."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from contracts import JobStage
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.remote_files import RemoteFailed
from services.ingest.core.file_names import plain_name
from services.ingest.dialects.pdftools import store
from services.ingest.dialects.pdftools.folder_files import fitted, write_atomically
from services.ingest.dialects.pdftools.options import data_of, result_of
from services.ingest.http.records import files_of
from shared import clock
from shared.objects.access import ObjectMissing
from shared.runtime.row_loop import EventWake, RowLoop

log = logging.getLogger(__name__)
PAUSE_S, POLL_S, IDLE_S = 0.2, 1.0, 10.0
BACKOFF_S = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0, 14_400.0)
"""Delays between attempts. After the last one the delivery is given up; the result stays with its job."""


class ResultDelivery:
    """Delivers several results at once, tenants in turn. A repeated delivery is harmless, so rows need no lease."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        wake = EventWake(gateway.delivery_wake, PAUSE_S)
        self.loop = RowLoop(
            "delivery of results", self._due, self._deliver, self._later, wake, "job_id", at_once=16, poll_s=IDLE_S
        )

    async def run(self) -> None:
        """Run until cancelled."""
        await self.loop.run()

    async def _due(self) -> Sequence[Any]:
        rows, waiting = await self.gateway.store.read(lambda c: store.due_deliveries(c, clock.unix()))
        self.loop.poll_s = POLL_S if waiting else IDLE_S
        return rows

    async def _deliver(self, row: Any) -> None:
        job = await self.gateway.record("job_view", row.job_id, row.tenant_id)
        if job is None or not JobStage(job["stage"]).terminal:
            return
        files = await files_of(self.gateway, "job_id", row.job_id)
        made = data_of(job, files) if job["stage"] == "completed" else []
        try:
            await (self._to_url(row, made) if row.kind == "url" else self._to_folder(row, job, files, made))
        except (RemoteFailed, OSError, ObjectMissing) as error:
            last = row.attempt >= len(BACKOFF_S)
            log.warning("a result was not delivered", extra={"job.id": row.job_id, "reason": str(error), "given_up": last})
            await self._reschedule(row, row.attempt + 1, None if last else clock.unix() + BACKOFF_S[row.attempt])
            return
        await self._reschedule(row, row.attempt, None)

    async def _later(self, row: Any) -> None:
        """A fault of ours, or of the stores: the attempt does not count."""
        await self._reschedule(row, row.attempt, clock.unix() + BACKOFF_S[0])

    async def _reschedule(self, row: Any, attempt: int, due_at: float | None) -> None:
        await self.gateway.store.transact(lambda c: store.reschedule_delivery(c, row.job_id, attempt, due_at))

    async def _to_url(self, row: Any, made: list[dict[str, Any]]) -> None:
        for datum in made:
            size, chunks = await self.gateway.objects.of(row.tenant_id).stream_object(datum["blob"])
            await self.gateway.remote.store("POST", row.target, size, chunks, "application/octet-stream")

    async def _to_folder(self, row: Any, job: dict[str, Any], files: list[dict[str, Any]], made: list[dict[str, Any]]) -> None:
        """Results go to `out`. A document that failed goes to `failed`, with a log beside it."""
        places = json.loads(row.target)
        taken, out, failed = (Path(places[name]) for name in ("taken", "out", "failed"))
        if made:
            for datum in made:
                target = out / fitted(plain_name(datum["file_name"], "result"))
                await write_atomically(target, await self.gateway.objects.of(row.tenant_id).get_object(datum["blob"]))
            await asyncio.to_thread(taken.unlink, True)
            return
        said = json.dumps(result_of(job, files), ensure_ascii=False, indent=1)
        await write_atomically(failed / fitted(places["name"], ".log"), said.encode())
        if await asyncio.to_thread(taken.exists):
            await asyncio.to_thread(taken.replace, failed / fitted(places["name"]))
