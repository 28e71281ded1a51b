"""Delay before an operation is retried whose dependency was unavailable (`Retry`)."""

from __future__ import annotations

import random

FIRST_S = 0.5
LONGEST_S = 5.0
"""A retry is one connection or statement, so that frequent ones are harmless. A longer delay would be added to every outage, in each
service on a job's way."""


def backoff(failures: int) -> float:
    """Seconds to wait after `failures` (1 or more) in a row: doubled each time up to `LONGEST_S`, with a jitter of 20 %."""
    return min(LONGEST_S, FIRST_S * 2.0 ** min(failures - 1, 10)) * random.uniform(0.8, 1.2)
