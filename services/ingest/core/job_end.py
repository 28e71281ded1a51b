"""The end of a job is shown once the ends of all its files are. Pure: (record, event) → record.

Job events and file events are on two topics, and a reader may be ahead on either of them. The event that ends a job may arrive before the
last event of its files; a client that sees `completed` would then find results missing. So the record holds the end back under `ending`
until two conditions are met: the job's last event was read, and as many file ends as that event counts were read.
"""

from __future__ import annotations

from typing import Any

from contracts.alfred import AlfredEvent
from contracts.file_events import FileDone, FileFailed, FileStatusUpdate
from contracts.job_events import JobEvent
from contracts.status import TERMINAL_STAGES
from services.ingest.core import job_view
from services.ingest.core.numbering import MISSING, note_gap, number_of

Record = dict[str, Any]
_NEVER_HELD = frozenset({"sequence", "update_date", "file_ends_read", "ending", MISSING})
"""Fields that show their new value also while the end is held back."""


def ends_file(event: AlfredEvent[Any]) -> bool:
    """True for the one event by which a file ends in its job."""
    if isinstance(event, FileStatusUpdate):
        return event.event.file_status.terminal
    return isinstance(event, (FileDone, FileFailed))


def with_held_end(record: Record) -> Record:
    """The record as it is with the end that is held back, if there is one."""
    held = record.get("ending")
    return {**record, **held, "ending": None} if held else record


def apply_event(record: Record, event: JobEvent) -> Record:
    """The record after a job event."""
    before, number = with_held_end(record), number_of(event)
    after = job_view.apply_event(before if number is None else note_gap(before, number), event)
    return record if after is before else _hold_back(record, after)


def file_ended(record: Record) -> Record:
    """The record after one more of the job's files has ended."""
    return _hold_back(record, {**with_held_end(record), "file_ends_read": record["file_ends_read"] + 1})


def _hold_back(before: Record, after: Record) -> Record:
    if after["stage"] not in TERMINAL_STAGES or before["stage"] in TERMINAL_STAGES or _complete(after):
        return after
    held = {key: value for key, value in after.items() if key not in _NEVER_HELD and value != before.get(key)}
    return {**after, **{key: before.get(key) for key in held}, "ending": held}


def _complete(record: Record) -> bool:
    if record["finish_date"] is None:
        return False
    # The count is optional in the contract: without it the end is shown at once.
    expected = record["file_ends"]
    return expected is None or record["file_ends_read"] >= expected
