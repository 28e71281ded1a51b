"""Which of a job's numbered events its record has read, so that a repeat is known without a row for every event. Pure.

A job's events are numbered from 1 without a gap and come in that order: what is not newer than the record was read before. Where one
was left out all the same (it could not be read, and may be sent again when it can), the record says which.
"""

from __future__ import annotations

from typing import Any

from contracts.job_events import JobEvent

Record = dict[str, Any]
MISSING = "missing_events"
"""Field of a record: what was not read of the numbers below its `sequence`, as [first, last]; absent where there is nothing."""
MOST = 100
"""Gaps kept of one record, however wide each is."""


def number_of(event: JobEvent) -> int | None:
    """The event's number; None for a foreign one that has none, or none of ours."""
    number = event.event.sequence
    return number if number is not None and number > 0 else None


def read_before(record: Record, number: int) -> bool:
    """True when the event of this number has been read."""
    return bool(number <= record["sequence"] and not any(a <= number <= b for a, b in record.get(MISSING, ())))


def noted(record: Record, number: int) -> Record:
    """The record before an event that it has not read yet, with what that event says of gaps; its `sequence` is the fold's to change."""
    last = record["sequence"]
    if number == last + 1:
        return record
    known: list[list[int]] = record.get(MISSING, [])
    if number > last:
        return {**record, MISSING: [*known, [last + 1, number - 1]][-MOST:]}
    split = [part for a, b in known for part in (([a, number - 1], [number + 1, b]) if a <= number <= b else ([a, b],))]
    return {**record, MISSING: [[a, b] for a, b in split if a <= b][-MOST:]}
