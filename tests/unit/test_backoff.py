"""Delays between retries grow to a limit and have jitter."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.backoff import LONGEST_S, backoff


@given(st.integers(1, 10_000))
def test_the_delay_doubles_up_to_its_limit(failures: int) -> None:
    expected = min(LONGEST_S, 0.5 * 2 ** min(failures - 1, 20))
    assert 0.8 * expected <= backoff(failures) <= 1.2 * expected


def test_delays_have_jitter() -> None:
    assert len({backoff(8) for _ in range(20)}) > 10
