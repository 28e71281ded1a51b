"""Fires timers, which are rows: sleeps until the next one is due and wakes when an earlier one is written."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from sqlalchemy import Connection

from shared import clock
from shared.backoff import backoff
from shared.errors import Retry
from shared.processing.processor import BatchProcessor
from shared.processing.unit_of_work import Unit
from shared.runtime.wakeup import Wakeup

log = logging.getLogger(__name__)
SWEEP_S = 30.0
"""Longest time between two looks at the table."""
SHARED_SWEEP_S = 2.0
"""The same for a shared database, where another replica may have written an earlier timer and died."""


class TimerLoop:
    """Fires due rows of one kind.

    `next_due` reads the earliest due time in Unix seconds, or None when there is none. `fire(unit, limit)` handles at most `limit`
    due rows in one transaction and returns how many it handled.
    """

    def __init__(
        self, processor: BatchProcessor, next_due: Callable[[Connection], float | None], fire: Callable[[Unit, int], int]
    ) -> None:
        self.processor = processor
        self.next_due = next_due
        self.fire = fire
        self.last_pass = time.monotonic()
        self.sweep_s = SHARED_SWEEP_S if processor.store.shared else SWEEP_S
        self._wake = Wakeup()
        processor.after_commit.append(self._wake.set)

    async def run(self) -> None:
        """Fire timers until cancelled."""
        failures = 0
        while True:
            self._wake.begin()
            try:
                delay = await self._pass()
                failures = 0
            except Retry as error:
                failures += 1
                delay = backoff(failures)
                log.warning("timers will be retried", extra={"code": error.code, "reason": str(error)})
            self.last_pass = time.monotonic()
            if failures:
                await asyncio.sleep(delay)
            elif delay > 0:
                await self._wake.wait(delay)

    async def _pass(self) -> float:
        due = await self.processor.store.read(self.next_due)
        wait = self.sweep_s if due is None else due - clock.unix()
        if wait > 0:
            return min(wait, self.sweep_s)
        fired = await self.processor.run_unit(lambda unit: self.fire(unit, 200))
        return 0.0 if fired else 0.25
