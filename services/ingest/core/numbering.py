"""Which of a job's numbered events its record has read, so that a repeat is known without an inbox row per event. Pure.

A job's events are numbered from 1 without gaps and arrive in that order, so an event that is not newer than the record was read before.
There is one exception: an event that could not be read leaves a gap, and may be sent again later. The record lists these gaps.
"""

from __future__ import annotations

from typing import Any

from contracts.job_events import JobEvent

Record = dict[str, Any]
MISSING = "missing_events"
"""Field of a record: gaps below its `sequence`, as [first, last]; absent when there was none."""
MOST = 100
"""Gaps kept per record, however wide each is."""


def number_of(event: JobEvent) -> int | None:
    """The event's number; None for an event of another author, which has none or an invalid one."""
    number = event.event.sequence
    return number if number is not None and number > 0 else None


def read_before(record: Record, number: int) -> bool:
    """True when the event of this number was read."""
    return bool(number <= record["sequence"] and not any(a <= number <= b for a, b in record.get(MISSING, ())))


def note_gap(record: Record, number: int) -> Record:
    """The record with its gaps as they are once event `number` is read. `sequence` is left to the caller."""
    last = record["sequence"]
    if number == last + 1:
        return record
    known: list[list[int]] = record.get(MISSING, [])
    if number > last:
        return {**record, MISSING: [*known, [last + 1, number - 1]][-MOST:]}
    split = [part for a, b in known for part in (([a, number - 1], [number + 1, b]) if a <= number <= b else ([a, b],))]
    return {**record, MISSING: [[a, b] for a, b in split if a <= b][-MOST:]}
