"""Works on due rows of a table: several at once, tenants in turn, and the failure of a row delays that row alone."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from shared.backoff import backoff
from shared.database.faults import ConstraintViolated
from shared.errors import Retry, Stop
from shared.runtime.wakeup import Wakeup

log = logging.getLogger(__name__)
LONGEST_S = 3600.0
"""Longest time until a row is tried again that fails each time."""


class Wake(Protocol):
    """Wakes a loop that looks for work."""

    def begin(self) -> None:
        """Begin a look."""
        ...

    async def wait(self, at_most_s: float) -> None:
        """Wait until another look is asked for, at most `at_most_s` seconds."""
        ...


class EventWake:
    """`Wake` by an event, `pause_s` seconds later. For work that is asked for by single requests; `Wakeup` is for every commit."""

    def __init__(self, event: asyncio.Event, pause_s: float = 0.0) -> None:
        self.event = event
        self.pause_s = pause_s

    def begin(self) -> None:
        self.event.clear()

    async def wait(self, at_most_s: float) -> None:
        try:
            await asyncio.wait_for(self.event.wait(), at_most_s)
        except TimeoutError:
            return
        await asyncio.sleep(self.pause_s)


def pause_after(attempts: int) -> float:
    """Seconds until the next try of a row that has failed `attempts` times (1 or more): doubled each time, an hour at most."""
    return min(LONGEST_S, backoff(1) * 2.0 ** min(attempts, 20))


@dataclass
class RowLoop:
    """`due()` returns rows that are due, a fair choice of all tenants first; `key` and `tenant` are attributes of a row.

    `work(row)` handles one. When it raises, `later(row)` writes the row's next time; until then `due` leaves it out. Rows in progress may be
    returned again: they are skipped.
    """

    name: str
    due: Callable[[], Awaitable[Sequence[Any]]]
    work: Callable[[Any], Awaitable[None]]
    later: Callable[[Any], Awaitable[None]]
    wake: Wake | Wakeup
    key: str
    tenant: str = "tenant_id"
    at_once: int = 8
    poll_s: float = 15.0
    """Longest time between two looks."""
    _found: list[Any] = field(default_factory=list)
    """Rows of the last look that have not started."""
    _running: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _tenants: Counter[str] = field(default_factory=Counter)
    _stop: Stop | None = None
    """What ends the process: no later try of any row can help."""
    _held: dict[str, float] = field(default_factory=dict)
    """Rows whose next time could not be written → when they are tried again (monotonic)."""

    @property
    def per_tenant(self) -> int:
        """Rows of one tenant in progress at most: half of all, so that no tenant's slow rows hold up the others."""
        return max(1, self.at_once // 2)

    async def run(self) -> None:
        """Run until cancelled. Raises the `Stop` of a row."""
        try:
            while True:
                if self._stop is not None:
                    raise self._stop
                if not self._found:
                    self.wake.begin()
                    await self._look()
                self._start_found()
                if not self._found or self._running:
                    await self._rest()
        finally:
            for task in self._running.values():
                task.cancel()

    async def _look(self) -> None:
        try:
            self._found = list(await self.due())
        except Retry as error:
            log.warning("%s will be tried again", self.name, extra={"code": error.code, "reason": str(error)})
            await asyncio.sleep(1)
        now = time.monotonic()
        self._held = {key: at for key, at in self._held.items() if at > now}

    def _start_found(self) -> None:
        """Start what was found and may start. Rows beyond a tenant's share stay for later."""
        later = []
        for row in self._found:
            key, tenant = str(getattr(row, self.key)), str(getattr(row, self.tenant))
            if key in self._running or key in self._held:
                continue
            if len(self._running) < self.at_once and self._tenants[tenant] < self.per_tenant:
                self._start(key, tenant, row)
            else:
                later.append(row)
        self._found = later

    def _start(self, key: str, tenant: str, row: Any) -> None:
        self._tenants[tenant] += 1
        task = self._running[key] = asyncio.create_task(self._one(key, row))

        def ended(_: object) -> None:
            self._running.pop(key, None)
            self._tenants[tenant] -= 1
            if not self._tenants[tenant]:
                del self._tenants[tenant]

        task.add_done_callback(ended)

    async def _rest(self) -> None:
        """Wait until a row is done, or another look is asked for."""
        waiting = asyncio.create_task(self.wake.wait(self.poll_s))
        try:
            await asyncio.wait({waiting, *self._running.values()}, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                self._found = []
        finally:
            waiting.cancel()

    async def _one(self, key: str, row: Any) -> None:
        try:
            await self.work(row)
        except Exception as error:
            if isinstance(error, Stop) and not isinstance(error, ConstraintViolated):
                self._stop = error
                return
            facts = {"row": key, "code": getattr(error, "code", type(error).__name__), "reason": str(error)[:1000]}
            log.warning("%s failed for a row, which will be tried again", self.name, extra=facts, exc_info=_unexpected(error))
            await self._put_off(key, row)

    async def _put_off(self, key: str, row: Any) -> None:
        try:
            await self.later(row)
        except Retry:
            self._held[key] = time.monotonic() + pause_after(1)


def _unexpected(error: Exception) -> Exception | None:
    return None if isinstance(error, (Retry, OSError)) else error
