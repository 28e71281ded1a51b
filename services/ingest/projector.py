"""Projects events into the read model: one function per event type, in the table `PROJECTIONS`.

A projection changes records of the batch in memory; `RecordBatch.save` writes them. What the records of jobs and files become is decided
by `core/job_view`, `core/job_end` and `core/file_view`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from contracts import (
    BacklogState,
    CommandDecided,
    FileAdded,
    FileAddToJob,
    FileCategoryCreate,
    FileDone,
    FileFailed,
    JobCreate,
    JobErased,
    JobExplained,
    Message,
    ScheduleState,
    SessionClosed,
    SessionCommandRefused,
    SessionEvent,
    SessionExpired,
    SessionFiles,
    SessionOpened,
    WebhookDecided,
    WorkflowPublished,
)
from contracts import file_events as f
from contracts import job_events as j
from contracts.alfred import AlfredEvent
from services.ingest.adapters.store import operations as ops
from services.ingest.adapters.store.record_batch import RecordBatch
from services.ingest.core import file_view, job_end, job_view
from services.ingest.core.job_end import ends_file
from services.ingest.core.job_view import text
from services.ingest.core.numbering import number_of, read_before
from services.ingest.core.record_keys import record_id
from shared.processing.records import Inbound

Record = dict[str, Any]
Projection = Callable[[RecordBatch, Any, Inbound], object]
QUIET_VERBS = ("explain", "create")
"""Verbs whose decisions are not audited: they change nothing, or the job itself is the trace."""


def project(batch: RecordBatch, item: Inbound) -> None:
    """Apply one event to the batch. An event type without a projection raises `KeyError`."""
    PROJECTIONS[type(item.message)](batch, item.message, item)


# --- job.events ---------------------------------------------------------------------------------------------------------------------


def job_created(batch: RecordBatch, event: JobCreate, item: Inbound) -> None:
    """Change the job's record and index its terms."""
    before = batch.jobs.get(record_id(event))
    job_changed(batch, event, item)
    after = batch.jobs.get(record_id(event))
    if after is not None and after is not before:
        batch.add_terms(after["id"], job_view.terms(after))


def job_changed(batch: RecordBatch, event: j.JobEvent, item: Inbound) -> None:
    """Change the job's record and append to its history, once per sequence number. Events of erased jobs are skipped."""
    job_id, number = record_id(event), number_of(event)
    if job_id in batch.erased:
        return
    known = batch.jobs.get(job_id)
    if known is not None and number is not None and read_before(known, number):
        batch.duplicates += 1
        return
    batch.history.append((job_id, _json(item)))
    batch.jobs[job_id] = job_end.apply_event(batch.job(job_id, event.tenant, event.time), event)


# --- file.events --------------------------------------------------------------------------------------------------------------------


def file_listed(batch: RecordBatch, event: FileAddToJob, item: Inbound) -> None:
    """The job is found by the file's name, in lower case."""
    file_changed(batch, event, item, f"file:{event.event.file_name.lower()}" if event.event.file_name else None)


def file_tagged(batch: RecordBatch, event: FileCategoryCreate, item: Inbound) -> None:
    """The job is found by the file's tag."""
    file_changed(batch, event, item, f"tag:{event.event.description}")


def file_failed(batch: RecordBatch, event: FileFailed, item: Inbound) -> None:
    """The job is found by the error's code."""
    file_changed(batch, event, item, f"error:{event.event.code}" if event.event.code else None)


def file_done(batch: RecordBatch, event: FileDone, item: Inbound) -> None:
    """The file's text, if it has one, waits for the full-text index."""
    record = file_changed(batch, event, item)
    if record is not None and event.event.index_blob:
        row = {
            "file_id": record["id"],
            "tenant_id": event.tenant,
            "file_name": record["file_name"],
            "blob": event.event.index_blob,
        }
        batch.to_index.append(row)


def file_changed(batch: RecordBatch, event: AlfredEvent[Any], item: Inbound, term: str | None = None) -> Record | None:
    """Change the file's record and append to its job's history; count the file's end. None for a file of an erased job."""
    file_id, job_id = record_id(event), event.event.job_id
    if job_id in batch.erased:
        return None
    if job_id:
        batch.history.append((job_id, _json(item)))
        if term is not None:
            batch.add_terms(job_id, [term])
        if ends_file(event):
            batch.count_file_end(job_id)
    record = file_view.apply_event(batch.file(file_id, event.tenant, event.time, job_id), event)
    batch.files[file_id] = record
    return record


def _json(item: Inbound) -> str:
    return item.value.decode("utf-8", "replace")


# --- session.events -----------------------------------------------------------------------------------------------------------------


def session_opened(batch: RecordBatch, event: SessionOpened, item: Inbound) -> None:
    """Add the session's record."""
    at = text(event.occurred_at)
    new: Record = {
        "id": event.session_id, "creation_date": at, "status": "open", "user_name": event.owner.user_name,
        "company_id": event.owner.tenant_id, "job_id": None, "expires_at": text(event.expires_at),
    }  # fmt: skip
    batch.save_session({**batch.sessions.get(event.session_id, new), "update_date": at})
    _answer(batch, event)


def file_added(batch: RecordBatch, event: FileAdded, item: Inbound) -> None:
    """Add the file's record."""
    record = file_view.of_reference(batch.file(event.file.file_id, event.tenant, event.occurred_at), event.file)
    owner = {"deferred_session_id": event.session_id, "user_name": event.owner.user_name}
    batch.files[event.file.file_id] = {**record, **owner}
    _change_session(batch, event)
    _answer(batch, event)


def session_files(batch: RecordBatch, event: SessionFiles, item: Inbound) -> None:
    """Link a part of the session's files to the job."""
    for file in event.files:
        batch.files[file.file_id] = {**batch.file(file.file_id, event.tenant, event.occurred_at), "job_id": event.job_id}


def session_closed(batch: RecordBatch, event: SessionClosed, item: Inbound) -> None:
    """Add the job's record and link the session's files to it."""
    batch.jobs[event.job_id] = job_view.of_session(batch.job(event.job_id, event.tenant, event.occurred_at), event)
    for file in event.files:
        batch.files[file.file_id] = {**batch.file(file.file_id, event.tenant, event.occurred_at), "job_id": event.job_id}
    _change_session(batch, event, status="closed", job_id=event.job_id)
    _answer(batch, event)


def session_expired(batch: RecordBatch, event: SessionExpired, item: Inbound) -> None:
    """Mark the session."""
    _change_session(batch, event, status="expired")
    _answer(batch, event)


def session_refused(batch: RecordBatch, event: SessionCommandRefused, item: Inbound) -> None:
    """Answer the command that was refused."""
    answer = {"ok": False, "reason": event.reason, "message": event.message, "job_id": event.job_id}
    batch.decisions.append((event.caused_by, answer))


def _change_session(batch: RecordBatch, event: SessionEvent, **changes: Any) -> None:
    session = batch.sessions.get(event.session_id)
    if session is not None:
        batch.save_session({**session, **changes, "update_date": text(event.occurred_at)})


def _answer(batch: RecordBatch, event: SessionEvent) -> None:
    batch.decisions.append((event.caused_by, {"ok": True, "job_id": getattr(event, "job_id", None)}))


# --- answers and state of the orchestrator and the notifier -------------------------------------------------------------------------


def command_decided(batch: RecordBatch, event: CommandDecided, item: Inbound) -> None:
    """Answer the command; enter it into the audit."""
    answer = {"ok": event.ok, "reason": event.code, "message": event.message, "job_id": event.job_id, "sequence": event.sequence}
    batch.decisions.append((event.command_id, answer))
    if event.verb not in QUIET_VERBS:
        batch.audit.append(event)


def job_explained(batch: RecordBatch, event: JobExplained, item: Inbound) -> None:
    """Answer the question why a job waits."""
    changes_at = text(event.changes_at) if event.changes_at else None
    why = {"code": event.code, "message": event.message, "facts": event.facts, "changes_at": changes_at}
    batch.decisions.append((event.command_id, {"ok": True, "why": {**why, "as_of": text(event.occurred_at)}}))


def webhook_decided(batch: RecordBatch, event: WebhookDecided, item: Inbound) -> None:
    """Answer the registration of a webhook."""
    answer = {"ok": event.ok, "reason": event.code, "message": event.message, "job_id": None}
    batch.decisions.append((event.command_id, answer))


def job_erased(batch: RecordBatch, event: JobErased, item: Inbound) -> None:
    """Delete everything of the job, after the rest of the batch is written."""
    batch.erasures.append(event)


def backlog_changed(batch: RecordBatch, event: BacklogState, item: Inbound) -> None:
    """Keep the newest state of each orchestrator."""
    ops.save_backlog(batch.unit.connection, event)


def workflow_published(batch: RecordBatch, event: WorkflowPublished, item: Inbound) -> None:
    """Keep the published version."""
    ops.save_workflow(batch.unit.connection, event)


def schedule_changed(batch: RecordBatch, event: ScheduleState, item: Inbound) -> None:
    """Keep the newest revision of the schedule."""
    ops.save_schedule(batch.unit.connection, event)


PROJECTIONS: Mapping[type[Message], Projection] = {
    j.JobCreate: job_created, j.JobStart: job_changed, j.JobStageUpdate: job_changed, j.JobRetry: job_changed,
    j.JobExceededRetries: job_changed, j.JobFailed: job_changed, j.JobInvalid: job_changed, j.JobFinished: job_changed,
    f.FileAddToJob: file_listed, f.FileCategoryCreate: file_tagged, f.FileFailed: file_failed, f.FileDone: file_done,
    f.FileStatusUpdate: file_changed, f.FileUpdate: file_changed, f.FileExtractedDataCreate: file_changed,
    f.FileExtractedDataDelete: file_changed, f.FilePropertyCreate: file_changed, f.FilePropertyDelete: file_changed,
    f.FileCategoryDelete: file_changed, f.FileChangeTag: file_changed, f.FileRemoveTag: file_changed, f.FileMove: file_changed,
    f.FileMoveToPending: file_changed, f.FileMoveToRecycleBin: file_changed,
    SessionOpened: session_opened, FileAdded: file_added, SessionFiles: session_files, SessionClosed: session_closed,
    SessionExpired: session_expired, SessionCommandRefused: session_refused,
    CommandDecided: command_decided, JobExplained: job_explained, WebhookDecided: webhook_decided, JobErased: job_erased,
    BacklogState: backlog_changed, WorkflowPublished: workflow_published, ScheduleState: schedule_changed,
}  # fmt: skip
"""Every event type of the topics that the gateway consumes → its projection."""
