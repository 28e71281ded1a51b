"""Answers which objects are still referred to: looks through jobs, their steps, schedules and workflows, a page at a time."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, text

from contracts import FindReferences, ReferencesFound, derived
from contracts.topics import JOB_ANSWERS_TOPIC
from services.job_orchestrator.ports import Stores
from shared.errors import Retry
from shared.processing.processor import BatchProcessor
from shared.processing.unit_of_work import Unit

log = logging.getLogger(__name__)
LOOK_S = 15.0
PAGE = 500
PAUSE_S = 0.02
"""Between two pages, so that the search takes a small part of the database's time."""
CONTENT = re.compile(r"/[0-9a-f]{2}/([0-9a-f]{64}(?:-[0-9a-f]{16})?)")
"""The last part of the name of stored content. Whichever tenant's name it is in, the object is kept."""
TABLES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("job", ("id",)), ("lane", ("job_id", "lane_id")), ("session_part", ("job_id", "part")), ("schedule", ("id",)), ("workflow", ("name", "version")),
)  # fmt: skip
"""Tables whose `body` may name objects, with their keys."""


class ReferenceSearch:
    """Answers one question at a time. A replica that repeats it gives the same answer."""

    def __init__(self, processor: BatchProcessor, stores: Stores) -> None:
        self.processor = processor
        self.stores = stores

    async def run(self) -> None:
        """Answer until cancelled."""
        while True:
            try:
                question = await self.processor.store.read(lambda c: self.stores.steering(c).reference_question())
                if question is not None:
                    await self.answer(question)
                    continue
            except Retry as error:
                log.warning("a question about objects will be tried again", extra={"code": error.code, "reason": str(error)})
            await asyncio.sleep(LOOK_S)

    async def answer(self, question: FindReferences) -> None:
        """Search, then publish the answer."""
        found = await self.search({blob.rpartition("/")[2] for blob in question.blobs})
        blobs = tuple(blob for blob in question.blobs if blob.rpartition("/")[2] in found)

        def publish(unit: Unit) -> None:
            self.stores.steering(unit.connection).answered(question.command_id)
            event = ReferencesFound(
                answer_id=derived(question.command_id, "references"), command_id=question.command_id, tenant_id=question.tenant,
                occurred_at=datetime.fromtimestamp(unit.now, UTC), blobs=blobs,
            )  # fmt: skip
            unit.emit(JOB_ANSWERS_TOPIC.name, event, None, traced=False)

        await self.processor.run_unit(publish)

    async def search(self, wanted: set[str]) -> set[str]:
        """Those of the last parts of names that a stored text has."""
        found: set[str] = set()
        for table, key in TABLES:
            last: tuple[object, ...] | None = None
            while True:
                rows = await self.processor.store.read(lambda c, t=table, k=key, after=last: _page(c, t, k, after))  # type: ignore[misc]
                for row in rows:
                    found |= wanted.intersection(CONTENT.findall(row.body))
                if len(rows) < PAGE:
                    break
                last = tuple(getattr(rows[-1], column) for column in key)
                await asyncio.sleep(PAUSE_S)
        return found


def _page(connection: Connection, table: str, key: Sequence[str], after: tuple[object, ...] | None) -> Sequence[Any]:
    columns = ", ".join(key)
    where = f"WHERE ({columns}) > ({', '.join(f':k{n}' for n in range(len(key)))})" if after else ""
    values = {f"k{n}": value for n, value in enumerate(after or ())}
    query = text(f"SELECT {columns}, body FROM {table} {where} ORDER BY {columns} LIMIT {PAGE}")
    return connection.execute(query, values).all()
