"""Publishes `job.state`, about two seconds after a job changed. Several changes of a job become one record."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from sqlalchemy import Connection

from contracts.topics import JOB_STATE_TOPIC
from services.job_orchestrator.core.job import JOB_BRANCH
from services.job_orchestrator.core.snapshot import state_of
from services.job_orchestrator.ports import JobStore
from shared.errors import Retry
from shared.processing.processor import BatchProcessor
from shared.processing.unit_of_work import Unit

log = logging.getLogger(__name__)
EVERY_S = 2.0
SWEEP_S = 15.0
"""Seconds between two looks without a wake-up: another replica may have died before it published."""
BATCH = 1000
"""States in one transaction."""
STATES_PER_S = 150
MOST_S = 15.0
"""Under load, at most `STATES_PER_S` states per second are published, but each after at most `MOST_S` seconds."""


class JobStatePublisher:
    """Publishes the jobs that `JobStore.take_changed` returns, in transactions of its own. `stores` opens a store on a connection."""

    def __init__(self, processor: BatchProcessor, stores: Callable[[Connection], JobStore]) -> None:
        self.processor = processor
        self.stores = stores
        self._wake = asyncio.Event()
        processor.after_commit.append(self._wake.set)

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            published = 0
            try:
                self._wake.clear()
                # Looking first costs a read; an empty transaction would wake this loop again.
                while await self.processor.store.read(lambda c: self.stores(c).has_changed()):
                    published += await self.processor.run_unit(self.publish)
                await asyncio.sleep(min(MOST_S, max(EVERY_S, published / STATES_PER_S)))
                await asyncio.wait_for(self._wake.wait(), SWEEP_S)
            except TimeoutError:
                continue
            except Retry as error:
                log.warning(
                    "job states not published; they will be tried again", extra={"code": error.code, "reason": str(error)}
                )
                await asyncio.sleep(EVERY_S)

    def publish(self, unit: Unit) -> int:
        """Publish the states of up to `BATCH` changed jobs; returns how many."""
        store = self.stores(unit.connection)
        # Without locks: a batch that holds one of these jobs and marks it as changed waits for this transaction.
        jobs = store.load_headers(store.take_changed(BATCH))
        own = {
            job_id: (JOB_BRANCH,) for job_id, job in jobs.items() if any(step.scope == "job" for step in job.workflow.all_steps)
        }
        branches = store.load_branches(own) if own else {}
        for job_id, job in jobs.items():
            with_results = replace(job, branches=branches.get(job_id, {}))
            unit.emit(JOB_STATE_TOPIC.name, state_of(with_results), None, traced=False)
        return len(jobs)
