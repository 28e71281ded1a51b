"""Which of a job's numbered events its record has read, so that a repeat is known without a row for every event. Pure.

A job's events are numbered from 1 without a gap and come in that order: what is not newer than the record was read before. Where one
was left out all the same (it could not be read, and may be sent again when it can), the record says which.
"""

from __future__ import annotations

from typing import Any

Record = dict[str, Any]
MISSING = "missing_events"
"""Field of a record: numbers below its `sequence` that have not been read; absent where there are none."""
MOST = 100
"""Numbers kept of one record. A job whose first events had left the topic before this store was made begins with a gap."""


def read_before(record: Record, number: int) -> bool:
    """True when the event of this number has been read."""
    return bool(number <= record["sequence"] and number not in record.get(MISSING, ()))


def noted(record: Record, number: int) -> Record:
    """The record before an event that it has not read yet, with what that event says of gaps; its `sequence` is the fold's to change."""
    last = record["sequence"]
    if number == last + 1:
        return record
    missing = [n for n in record.get(MISSING, ()) if n != number]
    missing += range(max(last + 1, number - MOST), number)
    return {**record, MISSING: missing[-MOST:]}
