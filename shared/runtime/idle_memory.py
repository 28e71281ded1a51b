"""Returns memory to the operating system after load: the allocator keeps freed memory in pieces, and a process would keep its peak."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import time
from collections.abc import Callable

EVERY_S = 15.0
BUSY_SHARE = 0.1
"""A process that used at least this share of a core since the last look is busy."""
IDLE_SHARE = 0.03
"""A process that used at most this share is idle."""


class IdleMemory:
    """Releases memory once, at the first look that finds the process idle after it was busy.

    `cpu_s` returns the CPU seconds that the process has used, and `release` gives memory back.
    """

    def __init__(self, cpu_s: Callable[[], float] = time.process_time, release: Callable[[], None] | None = None) -> None:
        self.cpu_s = cpu_s
        self.release = release or release_memory
        self._used_s = cpu_s()
        # A start uses much memory too, and is over at the first idle look.
        self._was_busy = True

    async def run(self) -> None:
        """Look every `EVERY_S` seconds, until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            await self.look(EVERY_S)

    async def look(self, passed_s: float) -> None:
        """Compare the CPU time with that of the last look, `passed_s` seconds ago."""
        used_s = self.cpu_s()
        share, self._used_s = (used_s - self._used_s) / passed_s, used_s
        if share >= BUSY_SHARE:
            self._was_busy = True
        elif self._was_busy and share <= IDLE_SHARE:
            self._was_busy = False
            gc.collect()
            # Beside the event loop: the allocator's walk holds no lock of the interpreter.
            await asyncio.to_thread(self.release)


def release_memory() -> None:
    """Give the allocator's free pages back to the operating system. Does nothing where the C library cannot (musl, macOS)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
