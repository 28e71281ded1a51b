"""A job's numbered events: each is read once, in whatever order and however often they come."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.ingest.core.numbering import MISSING, MOST, noted, read_before


def read(record: dict[str, Any], number: int) -> dict[str, Any]:
    """The record after an event, whose number the fold keeps if it is the newest."""
    after = noted(record, number)
    return {**after, "sequence": max(number, record["sequence"])}


@given(st.lists(st.integers(1, MOST), max_size=200))
def test_each_number_is_news_once(numbers: list[int]) -> None:
    record: dict[str, Any] = {"sequence": 0}
    read_once: list[int] = []
    for number in numbers:
        if not read_before(record, number):
            read_once.append(number)
            record = read(record, number)
    assert sorted(read_once) == sorted(set(numbers)), "none left out, none twice"
    assert set(record.get(MISSING, ())) == set(range(1, max(numbers, default=0) + 1)) - set(numbers)


def test_numbers_without_a_gap_leave_nothing_behind() -> None:
    record: dict[str, Any] = {"sequence": 0}
    for number in range(1, 50):
        record = read(record, number)
    assert record == {"sequence": 49}


def test_a_large_gap_is_kept_in_part() -> None:
    record = read({"sequence": 0}, 10_000)
    assert record[MISSING] == list(range(10_000 - MOST, 10_000))
    assert read_before(record, 1), "too far back to be told from a repeat"
