"""Watches the free space of a data directory: says when it runs out, and lets the broker start again when there is room."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from cli.local.plan import MIN_FREE_BYTES
from shared.runtime.disk_space import FULL_BYTES, free_bytes

LOOK_S = 1.0
RESUME_BYTES = 2 * FULL_BYTES
"""Room that a broker needs to start: it opens all its segments at once."""


class DiskWatch:
    """One per supervisor. `say` prints a line for the operator, who may read the directory's name."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.say = say
        self._told = ""

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """Say what has changed since the last look."""
        free = free_bytes(self.folder)
        if free is None:
            return
        state = "full" if free < FULL_BYTES else "low" if free < MIN_FREE_BYTES else ""
        # Once low, it has room again only above twice the limit of full, so that the lines do not alternate.
        if state == self._told or (state == "low" and self._told == "full" and free < RESUME_BYTES):
            return
        self._told = state
        self.say(line(self.folder, free))

    async def room(self, name: str) -> None:
        """Return when a process that writes to the directory may start; say that it waits."""
        told = False
        while (free := free_bytes(self.folder)) is not None and free < RESUME_BYTES:
            if not told:
                self.say(f"{name} waits for room: {line(self.folder, free)}")
                told = True
            await asyncio.sleep(LOOK_S)


def line(folder: Path, free: int) -> str:
    """The state of the disk as a sentence, with the directory."""
    if free < FULL_BYTES:
        needed = f"the broker starts again with {RESUME_BYTES >> 20} MiB"
        return f"the disk of {folder} is full: {free >> 20} MiB are left; {needed}"
    if free < MIN_FREE_BYTES:
        return f"the disk of {folder} is nearly full: {free >> 20} MiB are left"
    return f"the disk of {folder} has room: {free >> 20} MiB are left"
