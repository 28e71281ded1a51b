"""A process gives memory back once when its load has ended, and never while it works."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

import pytest

from shared.runtime.idle_memory import IdleMemory, release_memory


class Process:
    """A process whose CPU time the test sets."""

    def __init__(self) -> None:
        self.used_s = 100.0
        self.released = 0
        self.memory = IdleMemory(lambda: self.used_s, self.release)

    def release(self) -> None:
        self.released += 1

    async def passes(self, share: float) -> int:
        """Ten seconds pass, in which the process uses `share` of a core. Returns how often it has released memory."""
        self.used_s += share * 10
        await self.memory.look(10)
        return self.released


async def test_memory_is_released_once_after_each_load() -> None:
    process = Process()
    assert await process.passes(0.01) == 1, "after the start"
    assert await process.passes(0.01) == 1
    for _ in range(3):
        assert await process.passes(0.9) == 1, "never under load"
    assert await process.passes(0.05) == 1, "not while it still works"
    assert await process.passes(0.01) == 2
    assert await process.passes(0.01) == 2


async def test_little_work_is_no_load() -> None:
    process = Process()
    await process.passes(0.0)
    for share in (0.05, 0.02, 0.09, 0.0):
        assert await process.passes(share) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and trims glibc's heap")
def test_freed_pages_go_back() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

    # Below the size that the allocator maps on its own, and each with a neighbour that stays: the heap cannot shrink at its end.
    kept: list[bytearray] = []
    dropped: list[bytearray] = []
    for _ in range(2000):
        dropped.append(bytearray(60_000))
        kept.append(bytearray(600))
    full = resident()
    dropped.clear()
    release_memory()
    assert full - resident() > 60 << 20
    assert len(kept) == 2000
