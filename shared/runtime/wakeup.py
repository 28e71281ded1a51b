"""When to look at the store again: every commit asks for it, and a busy service commits hundreds of times a second."""

from __future__ import annotations

import asyncio
import time

SHORTEST_S, LONGEST_S = 0.05, 0.5
SHARE = 20
"""Times what the last look took: looks of up to 25 ms take a twentieth of a loop's time, and those that cost next to nothing come soon."""


class Wakeup:
    """One per loop that looks for work in the store. `set` may be called from anywhere in the event loop."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._began = time.monotonic()

    def set(self) -> None:
        """There may be something to see."""
        self._asked.set()

    def begin(self) -> None:
        """A look begins: what is asked for from now on asks for another one."""
        self._asked.clear()
        self._began = time.monotonic()

    async def wait(self, at_most_s: float | None) -> None:
        """After a look: until somebody has asked for another one and it may come, or until `at_most_s` seconds are over."""
        ended = time.monotonic()
        try:
            await asyncio.wait_for(self._asked.wait(), at_most_s)
        except TimeoutError:
            return
        pause = min(LONGEST_S, max(SHORTEST_S, SHARE * (ended - self._began)))
        left = pause if at_most_s is None else ended + at_most_s - time.monotonic()
        await asyncio.sleep(max(0.0, min(pause, left)))
