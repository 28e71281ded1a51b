"""Back-off: it grows up to a limit, and clients that failed together retry at different times."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.backoff import LONGEST_S, backoff


@given(st.integers(1, 10_000))
def test_it_doubles_up_to_the_longest(failures: int) -> None:
    expected = min(LONGEST_S, 0.5 * 2 ** min(failures - 1, 20))
    assert 0.8 * expected <= backoff(failures) <= 1.2 * expected


def test_clients_that_wait_for_the_same_server_retry_at_different_times() -> None:
    assert len({backoff(8) for _ in range(20)}) > 10
