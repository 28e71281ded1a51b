"""How long to wait before what failed for want of a dependency (`Retry`) is tried again."""

from __future__ import annotations

import random

FIRST_S = 0.5
LONGEST_S = 5.0
"""Trying is one connection or statement, so a dependency that is away for hours is not harmed by it; but whoever waits until it is back
waits this long once more, and in every service that stands between."""


def backoff(failures: int) -> float:
    """Seconds to wait after so many failures in a row (1 or more): twice as long each time up to `LONGEST_S`, spread by a fifth."""
    return min(LONGEST_S, FIRST_S * 2.0 ** min(failures - 1, 10)) * random.uniform(0.8, 1.2)
