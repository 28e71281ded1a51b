"""A job's end is shown once everything of its files is. Pure: (record, event) → record.

What becomes of a job and what becomes of its files are on two topics, and a reader may be ahead on either: a broker that was
away may bring the job's end before the last of its files. Whoever then asked would be told `completed`, and find results
missing. So the record holds an end back, under `ending`, until the job's last event has come, and as many ends of its files as
that event says there are.
"""

from __future__ import annotations

from typing import Any

from contracts.alfred import AlfredEvent
from contracts.file_events import FileDone, FileFailed, FileStatusUpdate
from contracts.job_events import JobEvent
from contracts.status import TERMINAL_STAGES
from services.ingest.core import job_view
from services.ingest.core.numbering import MISSING, noted, number_of

Record = dict[str, Any]
_AT_ONCE = frozenset({"sequence", "update_date", "file_ends_read", "ending", MISSING})
"""What is shown of an end that is held back."""


def ends_file(event: AlfredEvent[Any]) -> bool:
    """True for the one event by which a file ends in its job."""
    if isinstance(event, FileStatusUpdate):
        return event.event.file_status.terminal
    return isinstance(event, (FileDone, FileFailed))


def whole(record: Record) -> Record:
    """The record with the end that is held back, if one is."""
    held = record.get("ending")
    return {**record, **held, "ending": None} if held else record


def fold(record: Record, event: JobEvent) -> Record:
    """The record after a job event."""
    before, number = whole(record), number_of(event)
    after = job_view.fold(before if number is None else noted(before, number), event)
    return record if after is before else _shown(record, after)


def file_ended(record: Record) -> Record:
    """The record after one more of the job's files has ended."""
    return _shown(record, {**whole(record), "file_ends_read": record["file_ends_read"] + 1})


def _shown(before: Record, after: Record) -> Record:
    if after["stage"] not in TERMINAL_STAGES or before["stage"] in TERMINAL_STAGES or _complete(after):
        return after
    held = {key: value for key, value in after.items() if key not in _AT_ONCE and value != before.get(key)}
    return {**after, **{key: before.get(key) for key in held}, "ending": held}


def _complete(record: Record) -> bool:
    if record["finish_date"] is None:
        return False
    # The count is optional in the contract: without it the end is shown at once.
    expected = record["file_ends"]
    return expected is None or record["file_ends_read"] >= expected
