"""Folds the event streams into the read model; tells waiting requests what was decided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from contracts.alfred import AlfredEvent
from contracts.job_events import JOB_EVENTS, JobEvent
from services.ingest.adapters.store import operations as ops
from services.ingest.adapters.store import read_model as rm
from services.ingest.core import file_view, job_end, job_view
from services.ingest.core.job_end import ends_file
from services.ingest.core.job_view import text
from services.ingest.core.numbering import number_of, read_before
from services.ingest.fold import FINDS, Fold, record_id
from shared.database.parse_cache import Recent
from shared.processing.inbox import DedupPolicy
from shared.processing.records import Inbound
from shared.processing.unit_of_work import Unit

Record = dict[str, Any]


class Projector:
    """The handler of the door's subscription. `tell` gets what commands have come to, once that is durable."""

    def __init__(self, tell: Callable[[Sequence[tuple[str, Record]]], None]) -> None:
        self.tell = tell
        self.recent = rm.recent_jobs()

    def __call__(self, unit: Unit, batch: Sequence[Inbound]) -> None:
        decisions = on_batch(unit, batch, self.recent)
        if decisions:
            unit.after_commit.append(lambda: self.tell(decisions))


def on_batch(unit: Unit, batch: Sequence[Inbound], recent: Recent[Record]) -> Sequence[tuple[str, Record]]:
    """`session.events`, `job.events` and `file.events`; answers what commands have come to, by their ids."""
    fold = Fold(unit, batch, recent)
    for item in batch:
        with item.guard():
            m = item.message
            if isinstance(m, AlfredEvent):
                _alfred(fold, m, item)
            elif isinstance(m, SessionEvent):
                _session(fold, m)
            else:
                _other(fold, m)
    fold.save()
    unit.telemetry.count("pipeline.inbox.duplicates", fold.repeats)
    return fold.decisions


def _alfred(fold: Fold, event: AlfredEvent[Any], item: Inbound) -> None:
    if event.event.job_id in fold.gone:
        return
    if isinstance(event, JOB_EVENTS):
        _job(fold, event, item)
        return
    if event.event.job_id:
        fold.history.append((event.event.job_id, item.value.decode("utf-8", "replace")))
    key = record_id(event)
    if isinstance(event, FINDS) and event.event.job_id:
        fold.found_by(event.event.job_id, _terms(event))
    if event.event.job_id and ends_file(event):
        fold.file_ended(event.event.job_id)
    fold.files[key] = record = file_view.fold(fold.file(key, event.tenant, event.time, event.event.job_id), event)
    if isinstance(event, FileDone) and event.event.index_blob:
        row = {
            "file_id": key,
            "tenant_id": event.tenant,
            "file_name": record["file_name"],
            "blob": event.event.index_blob,
        }
        rm.await_index(fold.unit.connection, [row])


def _job(fold: Fold, event: JobEvent, item: Inbound) -> None:
    key, number = record_id(event), number_of(event)
    known = fold.jobs.get(key)
    if known is not None and number is not None and read_before(known, number):
        fold.repeats += 1
        return
    fold.history.append((key, item.value.decode("utf-8", "replace")))
    before = fold.job(key, event.tenant, event.time)
    fold.jobs[key] = after = job_end.fold(before, event)
    if isinstance(event, JobCreate) and after is not before:
        fold.found_by(key, job_view.terms(after))


def dedup_policy(message: Message) -> DedupPolicy:
    """How the inbox tells repeats of the door's messages. A job's numbered events tell by their numbers (`core/numbering.py`)."""
    return DedupPolicy.NONE if isinstance(message, JOB_EVENTS) and number_of(message) is not None else DedupPolicy.BY_ID


def _session(fold: Fold, event: SessionEvent) -> None:
    at = text(event.occurred_at)
    session = fold.sessions.get(event.session_id)
    if isinstance(event, SessionOpened) and session is None:
        session = {
            "id": event.session_id, "creation_date": at, "status": "open", "user_name": event.owner.user_name,
            "company_id": event.owner.tenant_id, "job_id": None, "expires_at": text(event.expires_at),
        }  # fmt: skip
    elif isinstance(event, FileAdded):
        record = file_view.of_reference(fold.file(event.file.file_id, event.tenant, event.occurred_at), event.file)
        fold.files[event.file.file_id] = {
            **record,
            "deferred_session_id": event.session_id,
            "user_name": event.owner.user_name,
        }
    elif isinstance(event, SessionClosed):
        session = {**(session or {}), "status": "closed", "job_id": event.job_id}
        fold.jobs[event.job_id] = job_view.of_session(fold.job(event.job_id, event.tenant, event.occurred_at), event)
        for f in event.files:
            fold.files[f.file_id] = {**fold.file(f.file_id, event.tenant, event.occurred_at), "job_id": event.job_id}
    elif isinstance(event, SessionFiles):
        for f in event.files:
            fold.files[f.file_id] = {**fold.file(f.file_id, event.tenant, event.occurred_at), "job_id": event.job_id}
        return
    elif isinstance(event, SessionExpired):
        session = {**(session or {}), "status": "expired"}
    if session is not None and not isinstance(event, SessionCommandRefused) and "id" in session:
        fold.touched["sessions"].add(event.session_id)
        fold.sessions[event.session_id] = {**session, "update_date": at}
    fold.decisions.append((event.caused_by, _decision(event)))


def _terms(event: FileAddToJob | FileFailed | FileCategoryCreate) -> list[str]:
    if isinstance(event, FileAddToJob):
        return [f"file:{event.event.file_name.lower()}"] if event.event.file_name else []
    if isinstance(event, FileFailed):
        return [f"error:{event.event.code}"] if event.event.code else []
    return [f"tag:{event.event.description}"]


def _other(fold: Fold, m: Message) -> None:
    c = fold.unit.connection
    if isinstance(m, CommandDecided):
        answer: Record = {"ok": m.ok, "reason": m.code, "message": m.message, "job_id": m.job_id, "sequence": m.sequence}
        fold.decisions.append((m.command_id, answer))
        if m.verb not in ("explain", "create"):
            fold.decided.append(m)
    elif isinstance(m, WebhookDecided):
        fold.decisions.append((m.command_id, {"ok": m.ok, "reason": m.code, "message": m.message, "job_id": None}))
    elif isinstance(m, JobExplained):
        changes_at = text(m.changes_at) if m.changes_at else None
        answer = {"code": m.code, "message": m.message, "facts": m.facts, "changes_at": changes_at, "as_of": text(m.occurred_at)}
        fold.decisions.append((m.command_id, {"ok": True, "why": answer}))
    elif isinstance(m, BacklogState):
        ops.save_backlog(c, m)
    elif isinstance(m, WorkflowPublished):
        ops.save_workflow(c, m)
    elif isinstance(m, ScheduleState):
        ops.save_schedule(c, m)
    elif isinstance(m, JobErased):
        fold.erasures.append(m)


def _decision(event: SessionEvent) -> Record:
    if isinstance(event, SessionCommandRefused):
        return {"ok": False, "reason": event.reason, "message": event.message, "job_id": event.job_id}
    return {"ok": True, "job_id": getattr(event, "job_id", None)}
