"""Which records of the read model an event concerns, so that a batch loads them all at once. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from contracts import (
    FileAdded,
    FileAddToJob,
    FileCategoryCreate,
    FileFailed,
    Message,
    SessionClosed,
    SessionEvent,
    SessionFiles,
)
from contracts.alfred import AlfredEvent
from contracts.file_events import FileMove
from contracts.job_events import JOB_EVENTS
from services.ingest.core.job_end import ends_file

SEARCHABLE = (FileAddToJob, FileFailed, FileCategoryCreate)
"""File events with a term that the job is found by: a file name, an error code, a tag."""


@dataclass
class RecordKeys:
    """Ids of the records that a batch of events concerns."""

    jobs: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)
    sessions: set[str] = field(default_factory=set)
    named_jobs: set[str] = field(default_factory=set)
    """Jobs that an event names. Their records may not be needed, but an event of an erased job is skipped."""


def keys_of(messages: Iterable[Message]) -> RecordKeys:
    """The keys of all `messages`."""
    keys = RecordKeys()
    for message in messages:
        if isinstance(message, AlfredEvent):
            _of_alfred(keys, message)
        elif isinstance(message, SessionEvent):
            _of_session(keys, message)
    return keys


def record_id(event: AlfredEvent[Any]) -> str:
    """Id of the job that a job event is about, or of the file that a file event is about."""
    f = event.event
    if f.KIND == "job_event":
        return str(f.job_id)
    return str(getattr(f, "file_id", None) or getattr(f, "file_log_id", ""))


def _of_alfred(keys: RecordKeys, event: AlfredEvent[Any]) -> None:
    job_id = event.event.job_id
    if job_id:
        keys.named_jobs.add(job_id)
    if isinstance(event, JOB_EVENTS):
        keys.jobs.add(record_id(event))
        return
    keys.files.add(record_id(event))
    if isinstance(event, FileMove) and job_id and event.event.previous_job_id:
        keys.named_jobs.add(event.event.previous_job_id)
    if job_id and (isinstance(event, SEARCHABLE) or ends_file(event)):
        keys.jobs.add(job_id)


def _of_session(keys: RecordKeys, event: SessionEvent) -> None:
    keys.sessions.add(event.session_id)
    if isinstance(event, SessionClosed):
        keys.jobs.add(event.job_id)
    if isinstance(event, (SessionClosed, SessionFiles)):
        keys.files |= {f.file_id for f in event.files}
    elif isinstance(event, FileAdded):
        keys.files.add(event.file.file_id)
