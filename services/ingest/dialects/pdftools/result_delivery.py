"""Delivers results: to the URL of a connection, or to the folders of a watched folder. Due deliveries are rows."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from pathlib import Path
from typing import Any

from sqlalchemy import text

from contracts import JobStage
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.remote_files import RemoteFailed
from services.ingest.core.file_names import clean_name
from services.ingest.dialects.pdftools import store
from services.ingest.dialects.pdftools.options import data_of, result_of
from shared import clock
from shared.errors import Retry
from shared.objects.object_store import ObjectMissing

log = logging.getLogger(__name__)
TICK_S, POLL_S, IDLE_S = 1.0, 1.0, 10.0
BACKOFF_S = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0, 14_400.0)
"""Delays between attempts. After the last one the delivery is given up; the result stays with its job."""


class ResultDelivery:
    """Looks for due deliveries once a second. A repeated delivery is harmless, so rows need no lease."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            self.gateway.delivery_wake.clear()
            pause = IDLE_S
            try:
                for row in await self.gateway.store.read(lambda c: store.due_deliveries(c, clock.unix() + TICK_S)):
                    await self._deliver(row)
                    pause = TICK_S
            except Retry as error:
                log.warning("delivery of results failed, will retry", extra={"code": error.code, "reason": str(error)})
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.gateway.delivery_wake.wait(), pause)
            await asyncio.sleep(0.2)

    async def _deliver(self, row: Any) -> None:
        job = await self.gateway.record("job_view", row.job_id, row.tenant_id)
        if job is None or not JobStage(job["stage"]).terminal:
            await self._reschedule(row, row.attempt, clock.unix() + POLL_S)
            return
        query = text("SELECT body FROM file_view WHERE job_id = :j ORDER BY created_at, id")
        files = [
            json.loads(b) for b in await self.gateway.store.read(lambda c: c.execute(query, {"j": row.job_id}).scalars().all())
        ]
        made = data_of(job, files) if job["stage"] == "completed" else []
        try:
            await (self._to_url(row, made) if row.kind == "url" else self._to_folder(row, job, files, made))
        except (RemoteFailed, OSError, ObjectMissing) as error:
            last = row.attempt >= len(BACKOFF_S)
            log.warning("a result was not delivered", extra={"job.id": row.job_id, "reason": str(error), "given_up": last})
            await self._reschedule(row, row.attempt + 1, None if last else clock.unix() + BACKOFF_S[row.attempt])
            return
        await self._reschedule(row, row.attempt, None)

    async def _reschedule(self, row: Any, attempt: int, due_at: float | None) -> None:
        await self.gateway.store.transact(lambda c: store.reschedule_delivery(c, row.job_id, attempt, due_at))

    async def _to_url(self, row: Any, made: list[dict[str, Any]]) -> None:
        for datum in made:
            size, chunks = await self.gateway.objects.stream_object(datum["blob"])
            await self.gateway.remote.store("POST", row.target, size, chunks, "application/octet-stream")

    async def _to_folder(self, row: Any, job: dict[str, Any], files: list[dict[str, Any]], made: list[dict[str, Any]]) -> None:
        """Results go to `out`. A document that failed goes to `failed`, with a log beside it."""
        places = json.loads(row.target)
        taken, out, failed = (Path(places[name]) for name in ("taken", "out", "failed"))
        if made:
            for datum in made:
                await write_atomically(out / plain_name(datum["file_name"]), await self.gateway.objects.get_object(datum["blob"]))
            await asyncio.to_thread(taken.unlink, True)
            return
        said = json.dumps(result_of(job, files), ensure_ascii=False, indent=1)
        await write_atomically(failed / f"{places['name']}.log", said.encode())
        if await asyncio.to_thread(taken.exists):
            await asyncio.to_thread(taken.replace, failed / places["name"])


def plain_name(name: str) -> str:
    """A file name without folders that is not hidden."""
    return clean_name(name).lstrip(".") or "result"


async def write_atomically(target: Path, data: bytes) -> None:
    """Write a file so that readers of the folder see all of it or nothing."""

    def write() -> None:
        part = target.with_name(f".{target.name}.part")
        part.write_bytes(data)
        part.replace(target)

    await asyncio.to_thread(write)
