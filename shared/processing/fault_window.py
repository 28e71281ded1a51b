"""Counts dead letters that faults of our own code made: many within a short time mean a bug, a few over months mean odd records."""

from __future__ import annotations

import time
from collections import deque

from shared.errors import Stop

WINDOW_S = 600.0
"""Faults that are older count no more."""


class FaultWindow:
    """The faults of the last `WINDOW_S`."""

    def __init__(self) -> None:
        self._times: deque[float] = deque()

    def check(self, more: int, limit: int) -> None:
        """Raises `Stop` when `more` faults beside those of the window are over `limit`."""
        now = time.monotonic()
        while self._times and now - self._times[0] > WINDOW_S:
            self._times.popleft()
        count = len(self._times) + more
        if more and count > limit:
            reason = f"our own code failed on {count} records within {WINDOW_S / 60:.0f} minutes; see the dead letters"
            raise Stop("too_many_faults", reason)

    def count(self, more: int) -> None:
        """Note `more` faults, whose dead letters are kept."""
        self._times.extend([time.monotonic()] * more)
