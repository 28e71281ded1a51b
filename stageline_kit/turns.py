"""Slots of a worker, and the tasks that wait for one: the tenant with the fewest running tasks goes first."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, deque
from collections.abc import Callable

Start = Callable[[], bool]
"""Starts a task. Returns False when it need not run, which takes no slot."""


class TaskTurns:
    """At most `slots` tasks run at a time. `waiting` tasks may be held here, so that one tenant's long queue hides no other tenant's task.

    A tenant alone may use all slots. While it does, a task of another tenant gets one of `guests` further slots.
    """

    def __init__(self, slots: int, waiting: int = 0, guests: int = 0) -> None:
        self.slots = slots
        self.most_waiting = waiting
        self.guests = guests
        self.running: Counter[str] = Counter()
        self._queues: dict[str, deque[tuple[int, Start]]] = {}
        self._size = 0
        self._numbers = itertools.count()
        self._changed = asyncio.Event()

    @property
    def is_full(self) -> bool:
        """True while no task could start at once."""
        return self.running.total() >= self.slots

    async def wait_for_slot(self) -> None:
        """Return when a task could start at once."""
        while self.is_full:
            await self._next_change()

    async def enter(self, tenant: str, start: Start) -> None:
        """Start a task in its turn. Returns when it has started, or at once when it may wait here."""
        entry = (next(self._numbers), start)
        self._queues.setdefault(tenant, deque()).append(entry)
        self._size += 1
        self._fill()
        try:
            while self._size > self.most_waiting:
                await self._next_change()
        except asyncio.CancelledError:
            self._withdraw(tenant, entry)
            raise

    def leave(self, tenant: str) -> None:
        """A task has ended."""
        self.running[tenant] -= 1
        if self.running[tenant] <= 0:
            del self.running[tenant]
        self._fill()
        self._change()

    def _fill(self) -> None:
        while (tenant := self._chosen()) is not None:
            _, start = self._queues[tenant].popleft()
            if not self._queues[tenant]:
                del self._queues[tenant]
            self._size -= 1
            if start():
                self.running[tenant] += 1
            self._change()

    def _chosen(self) -> str | None:
        """The tenant whose task starts next; None while no slot is free for any."""
        if not self._queues:
            return None
        # Among equals, the task that came first.
        tenant = min(self._queues, key=lambda t: (self.running[t], self._queues[t][0][0]))
        total = self.running.total()
        if total < self.slots:
            return tenant
        is_guest = len(self.running) == 1 and tenant not in self.running
        return tenant if is_guest and total < self.slots + self.guests else None

    def _withdraw(self, tenant: str, entry: tuple[int, Start]) -> None:
        queue = self._queues.get(tenant)
        if queue is not None and entry in queue:
            queue.remove(entry)
            self._size -= 1
            if not queue:
                del self._queues[tenant]

    def _change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _next_change(self) -> None:
        await self._changed.wait()
