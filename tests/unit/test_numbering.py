"""Numbered events of a job: each is applied once, in any order and with any repeats."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.ingest.core.numbering import MISSING, MOST, note_gap, read_before


def read(record: dict[str, Any], number: int) -> dict[str, Any]:
    """The record after an event. It keeps the highest number."""
    after = note_gap(record, number)
    return {**after, "sequence": max(number, record["sequence"])}


@given(st.lists(st.integers(1, MOST), max_size=200))
def test_each_number_is_new_once(numbers: list[int]) -> None:
    record: dict[str, Any] = {"sequence": 0}
    read_once: list[int] = []
    for number in numbers:
        if not read_before(record, number):
            read_once.append(number)
            record = read(record, number)
    assert sorted(read_once) == sorted(set(numbers)), "no event is missing or repeated"
    missing = [n for first, last in record.get(MISSING, ()) for n in range(first, last + 1)]
    assert missing == sorted(set(range(1, max(numbers, default=0) + 1)) - set(numbers))


def test_numbers_without_a_gap_are_not_stored() -> None:
    record: dict[str, Any] = {"sequence": 0}
    for number in range(1, 50):
        record = read(record, number)
    assert record == {"sequence": 49}


def test_an_invalid_number_hides_no_event() -> None:
    record = read(read({"sequence": 0}, 1), 10**18)
    for number in range(2, 500):
        assert not read_before(record, number)
        record = read(record, number)
        assert read_before(record, number)
    assert record[MISSING] == [[500, 10**18 - 1]]


def test_of_very_many_gaps_the_last_are_kept() -> None:
    record: dict[str, Any] = {"sequence": 0}
    for number in range(2, 4 * MOST, 2):
        record = read(record, number)
    assert len(record[MISSING]) == MOST and record[MISSING][-1] == [4 * MOST - 3, 4 * MOST - 3]
