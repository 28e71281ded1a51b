"""How long a pair of address and user name waits after failed sign-ins. Pure."""

from __future__ import annotations

FREE_FAILURES = 4
"""Failures in a row that have no delay: people mistype."""
MAX_DELAY_S = 900.0


def delay_after(failures: int) -> float:
    """Seconds until the next attempt of the pair, after `failures` in a row: 1, 2, 4 … up to a quarter of an hour."""
    return 0.0 if failures <= FREE_FAILURES else min(2.0 ** min(failures - FREE_FAILURES - 1, 20), MAX_DELAY_S)
