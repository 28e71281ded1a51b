"""The state of changed jobs on `job.state`, about two seconds after the change: many changes of a job are one record."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from sqlalchemy import Connection

from contracts.topics import JOB_STATE_TOPIC
from services.job_orchestrator.core.snapshot import state_of
from services.job_orchestrator.ports import JobStore
from shared.errors import Retry
from shared.processing.processor import BatchProcessor
from shared.processing.unit_of_work import Unit

log = logging.getLogger(__name__)
EVERY_S = 2.0
SWEEP_S = 15.0
"""Looked at this often even if nothing woke us: another replica may have died before it published."""
BATCH = 1000
STATES_PER_S = 150
MOST_S = 15.0
"""Under load states are told more rarely instead of taking the pipeline's time: at most so many per second, at the latest after that."""


class Snapshots:
    """Publishes what `JobStore.take_changed` hands out, in transactions of its own. `stores` opens a store on a connection."""

    def __init__(self, processor: BatchProcessor, stores: Callable[[Connection], JobStore]) -> None:
        self.processor = processor
        self.stores = stores
        self._wake = asyncio.Event()
        processor.after_commit.append(self._wake.set)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            told = 0
            try:
                self._wake.clear()
                # A look costs nothing; a transaction of ours for nothing would wake us again.
                while await self.processor.store.read(lambda c: self.stores(c).has_changed()):
                    told += await self.processor.run_unit(self.publish)
                await asyncio.sleep(min(MOST_S, max(EVERY_S, told / STATES_PER_S)))
                await asyncio.wait_for(self._wake.wait(), SWEEP_S)
            except TimeoutError:
                continue
            except Retry as error:
                log.warning("job states will be published later", extra={"code": error.code, "reason": str(error)})
                await asyncio.sleep(EVERY_S)

    def publish(self, unit: Unit) -> int:
        """In one transaction: states of at most `BATCH` changed jobs; returns how many."""
        store = self.stores(unit.connection)
        # Not held: a batch that holds one of them and marks it anew waits for us, and we would wait for it.
        jobs = store.look(store.take_changed(BATCH))
        for job in jobs.values():
            unit.emit(JOB_STATE_TOPIC.name, state_of(job), None, traced=False)
        return len(jobs)
