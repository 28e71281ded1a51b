"""Limits how often a loop looks for work in the store: every commit asks for a look, hundreds of times a second in a busy service."""

from __future__ import annotations

import asyncio
import time

SHORTEST_S, LONGEST_S = 0.05, 0.5
SHARE = 20
"""The pause is this many times as long as the last look, so that looks take a twentieth of the loop's time."""


class Wakeup:
    """One per loop that looks for work in the store."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._began = time.monotonic()

    def set(self) -> None:
        """Ask for a look. Call it in the event loop."""
        self._asked.set()

    def begin(self) -> None:
        """Begin a look. A later `set` asks for another one."""
        self._asked.clear()
        self._began = time.monotonic()

    async def wait(self, at_most_s: float | None) -> None:
        """After a look, wait until another one is asked for and its pause is over, but at most `at_most_s` seconds."""
        ended = time.monotonic()
        try:
            await asyncio.wait_for(self._asked.wait(), at_most_s)
        except TimeoutError:
            return
        pause = min(LONGEST_S, max(SHORTEST_S, SHARE * (ended - self._began)))
        left = pause if at_most_s is None else ended + at_most_s - time.monotonic()
        await asyncio.sleep(max(0.0, min(pause, left)))
