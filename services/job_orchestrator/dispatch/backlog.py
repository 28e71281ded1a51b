"""Publishes `dispatch.backlog`: what waits, what runs, and when it will be done. Every two seconds while that changes."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial

from sqlalchemy import Connection

from contracts import BacklogLine, BacklogState
from contracts.topics import BACKLOG_TOPIC
from services.job_orchestrator.core.allocation import Capacity
from services.job_orchestrator.dispatch.budget import Budget
from services.job_orchestrator.dispatch.dispatcher import Dispatcher
from shared import clock
from shared.errors import Retry
from shared.processing.processor import BatchProcessor
from shared.processing.unit_of_work import Unit

log = logging.getLogger(__name__)
EVERY_S = 2.0
STILL = 0.01
"""Tasks per second below which an action counts as standing still."""
MOST = 2000
"""Lines, and controls, in one record."""
WORKERS_EVERY_S = 15.0
"""Seconds between two records that differ in the workers' signs of life alone."""


class BacklogPublisher:
    """Publishes in transactions of its own. `source` names this process in the records."""

    def __init__(self, processor: BatchProcessor, dispatcher: Dispatcher, source: str) -> None:
        self.processor = processor
        self.dispatcher = dispatcher
        self.source = source
        self._wake = asyncio.Event()
        self._last: BacklogState | None = None
        processor.after_commit.append(self._wake.set)

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            self._wake.clear()
            try:
                state = await self.processor.store.read(self.state)
                if self._differs(state):
                    self._last = state
                    await self.processor.run_unit(partial(_publish, state))
            except Retry as error:
                log.warning("backlog not published; it will be tried again", extra={"code": error.code, "reason": str(error)})
            await asyncio.sleep(EVERY_S)
            if self._last is None or not self._last.lines:
                await self._wake.wait()

    def _differs(self, state: BacklogState) -> bool:
        old = self._last
        if old is None or old.lines != state.lines or old.controls != state.controls:
            return True
        return (state.observed_at - old.observed_at).total_seconds() > WORKERS_EVERY_S and old.workers != state.workers

    def state(self, connection: Connection) -> BacklogState:
        """The backlog now."""
        now = clock.unix()
        budget = Budget(self.dispatcher.stores(connection), now)
        rates = self.dispatcher.rates
        waiting = {(w.action, w.tenant): w for w in budget.store.ready_summary()}
        moving = {line for rates in (rates.arrivals, rates.services) for line, rate in rates.items() if rate.per_s(now) > STILL}
        lines = [
            self._line(budget, line, waiting.get(line), now) for line in sorted(waiting.keys() | moving | rates.wasted.keys())
        ]
        controls = [
            {"kind": kind, "name": name, **{k: v for k, v in asdict(c).items() if v is not None and not k.startswith("tokens")}}
            for (kind, name), c in sorted(budget.controls.items())
        ]  # fmt: skip
        return BacklogState(
            source=self.source, observed_at=datetime.fromtimestamp(now, UTC), lines=tuple(lines[:MOST]),
            workers={a: round(at, 1) for a, at in budget.store.last_seen().items()}, controls=tuple(controls[:MOST]),
        )  # fmt: skip

    def _line(self, budget: Budget, line: tuple[str, str], waiting: object, now: float) -> BacklogLine:
        action, tenant = line
        rates = self.dispatcher.rates
        arrival, service = (r[line].per_s(now) if line in r else 0.0 for r in (rates.arrivals, rates.services))
        count, since = (getattr(waiting, "count", 0), getattr(waiting, "since", None))
        gate = next(
            (c for c in (budget.capacity("action", action), budget.capacity("tenant", tenant)) if c.gate != "open"), Capacity(1)
        )
        in_flight = max(0, budget.in_flight(("action", action)))
        left = count + in_flight
        drained = now + left / (service - arrival) if left and service - arrival > STILL else None
        return BacklogLine(
            action=action, tenant_id=tenant, waiting=count, in_flight=in_flight, oldest_at=since, arrival_per_s=round(arrival, 2),
            service_per_s=round(service, 2), drained_at=drained and round(drained), wasted=rates.wasted[line], gate=gate.gate,
            gate_message=", ".join(_said(k, v) for k, v in (gate.facts or {}).items() if v not in (None, "")),
        )  # fmt: skip


def _said(name: str, value: object) -> str:
    """A fact of a gate as people read it; times are Unix seconds."""
    if name in ("since", "at") and isinstance(value, float):
        value = datetime.fromtimestamp(value, UTC).isoformat(timespec="seconds")
    return f"{name}: {value}"


def _publish(state: BacklogState, unit: Unit) -> None:
    unit.emit(BACKLOG_TOPIC.name, state, None, traced=False)
