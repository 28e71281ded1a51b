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
    FileErased,
    JobCreate,
    JobErased,
    JobExplained,
    Message,
    ReferencesFound,
    ScheduleState,
    SessionClosed,
    SessionCommandRefused,
    SessionErased,
    SessionEvent,
    SessionExpired,
    SessionFiles,
    SessionOpened,
    TenantErased,
    WebhookChanged,
    WebhookDecided,
    WorkflowPublished,
)
from contracts import file_events as f
from contracts import job_events as j
from services.ingest import file_projector as fp
from services.ingest.adapters.store import operations as ops
from services.ingest.adapters.store.audit import Entry, add_entries
from services.ingest.adapters.store.record_batch import RecordBatch
from services.ingest.adapters.store.scheduled_starts import start_scheduled
from services.ingest.core import file_view, job_end, job_view
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
    if known is not None and known["company_id"] != event.tenant:
        batch.foreign += 1
        return
    if known is not None and number is not None and read_before(known, number):
        batch.duplicates += 1
        return
    batch.history.append((job_id, fp.json_of(item)))
    batch.jobs[job_id] = job_end.apply_event(batch.job(job_id, event.tenant, event.time), event)


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
    before = batch.file(event.file.file_id, event.tenant, event.occurred_at)
    if before is not None:
        owner = {"deferred_session_id": event.session_id, "user_name": event.owner.user_name}
        batch.files[event.file.file_id] = {**file_view.of_reference(before, event.file), **owner}
    _change_session(batch, event)
    _answer(batch, event)


def session_files(batch: RecordBatch, event: SessionFiles, item: Inbound) -> None:
    """Link a part of the session's files to the job."""
    _link_files(batch, event)


def session_closed(batch: RecordBatch, event: SessionClosed, item: Inbound) -> None:
    """Add the job's record and link the session's files to it."""
    batch.jobs[event.job_id] = job_view.of_session(batch.job(event.job_id, event.tenant, event.occurred_at), event)
    _link_files(batch, event)
    _change_session(batch, event, status="closed", job_id=event.job_id)
    _answer(batch, event)


def session_expired(batch: RecordBatch, event: SessionExpired, item: Inbound) -> None:
    """Mark the session."""
    _change_session(batch, event, status="expired")
    _answer(batch, event)


def session_erased(batch: RecordBatch, event: SessionErased, item: Inbound) -> None:
    """Delete everything of the session, after the rest of the batch is written. The last part answers the command."""
    batch.erasures.append(event)
    if event.part + 1 == event.parts:
        _answer(batch, event)


def session_refused(batch: RecordBatch, event: SessionCommandRefused, item: Inbound) -> None:
    """Answer the command that was refused."""
    answer = {"ok": False, "reason": event.reason, "message": event.message, "job_id": event.job_id}
    batch.decisions.append((event.caused_by, answer))


def _link_files(batch: RecordBatch, event: SessionFiles | SessionClosed) -> None:
    for file in event.files:
        record = batch.file(file.file_id, event.tenant, event.occurred_at)
        if record is not None:
            batch.files[file.file_id] = {**record, "job_id": record["job_id"] or event.job_id}


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
    if event.revision is not None:
        answer |= {"file_id": event.file_id, "revision": event.revision}
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


def webhook_changed(batch: RecordBatch, event: WebhookChanged, item: Inbound) -> None:
    """Enter what was done to a webhook into the audit."""
    line = Entry(
        event.tenant_id, event.occurred_at.timestamp(), f"webhook.{event.verb}", event.endpoint_id, event.by,
        message=event.message or None, reason=event.reason,
    )  # fmt: skip
    add_entries(batch.unit.connection, [line])


def job_erased(batch: RecordBatch, event: JobErased, item: Inbound) -> None:
    """Delete everything of the job, after the rest of the batch is written."""
    batch.erasures.append(event)


def file_erased(batch: RecordBatch, event: FileErased, item: Inbound) -> None:
    """Delete everything of the file, after the rest of the batch is written."""
    batch.erasures.append(event)


def tenant_erased(batch: RecordBatch, event: TenantErased, item: Inbound) -> None:
    """Nothing: the gateway has erased its part before it told the others."""


def backlog_changed(batch: RecordBatch, event: BacklogState, item: Inbound) -> None:
    """Keep the newest state of each orchestrator."""
    ops.save_backlog(batch.unit.connection, event)


def references_found(batch: RecordBatch, event: ReferencesFound, item: Inbound) -> None:
    """Answer the question which objects are needed."""
    batch.decisions.append((event.command_id, {"ok": True, "blobs": list(event.blobs)}))


def workflow_published(batch: RecordBatch, event: WorkflowPublished, item: Inbound) -> None:
    """Keep the published version, or note that it is deleted."""
    ops.save_workflow(batch.unit.connection, event)


def schedule_changed(batch: RecordBatch, event: ScheduleState, item: Inbound) -> None:
    """Keep the newest revision of the schedule, and admit the start that it asks for."""
    if ops.save_schedule(batch.unit.connection, event) and event.start_job_id is not None:
        start_scheduled(batch.unit, event, batch.settings)


PROJECTIONS: Mapping[type[Message], Projection] = {
    j.JobCreate: job_created, j.JobStart: job_changed, j.JobStageUpdate: job_changed, j.JobRetry: job_changed,
    j.JobExceededRetries: job_changed, j.JobFailed: job_changed, j.JobInvalid: job_changed, j.JobFinished: job_changed,
    f.FileAddToJob: fp.file_listed, f.FileCategoryCreate: fp.file_tagged, f.FileFailed: fp.file_failed, f.FileDone: fp.file_done,
    f.FileStatusUpdate: fp.file_changed, f.FileUpdate: fp.file_changed, f.FileExtractedDataCreate: fp.file_changed,
    f.FileExtractedDataDelete: fp.file_changed, f.FilePropertyCreate: fp.file_changed, f.FilePropertyDelete: fp.file_changed,
    f.FileCategoryDelete: fp.file_changed, f.FileChangeTag: fp.file_changed, f.FileRemoveTag: fp.file_untagged, f.FileMove: fp.file_moved,
    f.FileMoveToPending: fp.file_pending, f.FileMoveToRecycleBin: fp.file_recycled, FileErased: file_erased,
    SessionOpened: session_opened, FileAdded: file_added, SessionFiles: session_files, SessionClosed: session_closed,
    SessionExpired: session_expired, SessionErased: session_erased, SessionCommandRefused: session_refused,
    CommandDecided: command_decided, JobExplained: job_explained, WebhookDecided: webhook_decided, WebhookChanged: webhook_changed, JobErased: job_erased, TenantErased: tenant_erased,
    ReferencesFound: references_found, BacklogState: backlog_changed, WorkflowPublished: workflow_published, ScheduleState: schedule_changed,
}  # fmt: skip
"""Every event type of the topics that the gateway consumes → its projection."""
