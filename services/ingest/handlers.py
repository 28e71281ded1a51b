"""Folds the event streams into the read model; tells waiting requests what was decided."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
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
from contracts.job_events import JOB_EVENTS
from services.ingest.adapters import operations as ops
from services.ingest.adapters import read_model as rm
from services.ingest.adapters.erasure import erased, forget, save_refs
from services.ingest.core import file_view, job_end, job_view
from services.ingest.core.job_end import ends_file
from services.ingest.core.job_view import text
from shared.settle import Inbound
from shared.sql import exclusive
from shared.unit import Unit

Record = dict[str, Any]
HELD_S = 60.0
"""How long a job's end is held back at most: an event that cannot be read must not hide it for ever."""
FINDS = (FileAddToJob, FileFailed, FileCategoryCreate)
"""File events that say something a job is found by."""


class Fold:
    """One batch in memory: records are loaded once, folded in order, written once."""

    def __init__(self, unit: Unit, batch: Sequence[Inbound]) -> None:
        self.unit = unit
        # A job's record is folded from topics with different keys, so two replicas may hold events of the same one.
        exclusive(unit.connection, "fold")
        jobs: set[str] = set()
        files: set[str] = set()
        sessions: set[str] = set()
        for item in batch:
            m = item.message
            if isinstance(m, AlfredEvent):
                (jobs if isinstance(m, JOB_EVENTS) else files).add(record_id(m))
                if m.event.job_id and (isinstance(m, FINDS) or ends_file(m)):
                    jobs.add(m.event.job_id)
            elif isinstance(m, SessionEvent):
                sessions.add(m.session_id)
                jobs |= {m.job_id} if isinstance(m, SessionClosed) else set()
                files |= {f.file_id for f in m.files} if isinstance(m, (SessionClosed, SessionFiles)) else set()
                files |= {m.file.file_id} if isinstance(m, FileAdded) else set()
        c = unit.connection
        self.gone = erased(c, jobs | {i.message.event.job_id or "" for i in batch if isinstance(i.message, AlfredEvent)})
        self.jobs = rm.records(c, "job_view", jobs) if jobs else {}
        self.early = rm.early_ends(c, jobs - self.jobs.keys()) if jobs - self.jobs.keys() else {}
        self.stored_early = set(self.early)
        self.held = {job_id for job_id, record in self.jobs.items() if record.get("ending")}
        self.files = rm.records(c, "file_view", files) if files else {}
        self.sessions = rm.records(c, "session_view", sessions) if sessions else {}
        self.born: dict[str, float] = {}
        self.touched: dict[str, set[str]] = {"jobs": set(), "files": set(), "sessions": set()}
        self.history: list[tuple[str, str]] = []
        self.decisions: list[tuple[str, Record]] = []
        self.terms: list[tuple[str, str, float, str]] = []
        self.decided: list[CommandDecided] = []
        self.erasures: list[JobErased] = []

    def job(self, job_id: str, tenant: str, at: datetime) -> Record:
        """The job's record, new if need be."""
        self.touched["jobs"].add(job_id)
        known = self.jobs.get(job_id)
        self.born.setdefault(job_id, created(known) if known else at.timestamp())
        return known or {**job_view.new_job(job_id, tenant, at), "file_ends_read": self.early.pop(job_id, 0)}

    def file_ended(self, job_id: str) -> None:
        """One more of the job's files has ended. Of a job that is not known yet only that is kept: it may be long gone."""
        record = self.jobs.get(job_id)
        if record is None:
            self.early[job_id] = self.early.get(job_id, 0) + 1
        else:
            self.born.setdefault(job_id, created(record))
            self.touched["jobs"].add(job_id)
            self.jobs[job_id] = job_end.file_ended(record)

    def found_by(self, job_id: str, terms: Iterable[str]) -> None:
        """What a job is found by from now on."""
        record = self.jobs.get(job_id)
        if record is not None:
            born = self.born.setdefault(job_id, created(record))
            self.terms += [(record["company_id"], term, born, job_id) for term in terms]

    def file(self, file_id: str, tenant: str, at: datetime, of: str | None = None) -> Record:
        """The file's record, new if need be; `of` a job whose files come one after the other with one time."""
        self.touched["files"].add(file_id)
        if file_id not in self.born:
            self.born[file_id] = _in_turn(of, at.timestamp()) if of else at.timestamp()
        return self.files.get(file_id) or file_view.new_file(file_id, tenant, at)

    def save(self) -> None:
        """Write what was touched."""
        c = self.unit.connection
        rm.save_jobs(c, ((self.born[i], self.jobs[i]) for i in self.touched["jobs"] if i in self.jobs))
        rm.save_files(c, ((self.born[i], self.files[i]) for i in self.touched["files"] if i in self.files))
        rm.save_sessions(c, (self.sessions[i] for i in self.touched["sessions"] if i in self.sessions))
        rm.save_history(c, self.history)
        rm.save_decisions(c, self.decisions, self.unit.now)
        ops.save_terms(c, self.terms)
        ops.save_audit(c, self.decided)
        save_refs(c, (self.files[i] for i in self.touched["files"] if i in self.files))
        save_refs(c, (self.jobs[i] for i in self.touched["jobs"] if self.jobs.get(i, {}).get("outputs")))
        rm.save_early_ends(c, self.early, self.stored_early - self.early.keys(), self.unit.now)
        now_held = {i for i in self.touched["jobs"] if self.jobs.get(i, {}).get("ending")}
        rm.hold_ends(c, now_held - self.held, (self.held & self.touched["jobs"]) - now_held, self.unit.now + HELD_S)
        for event in self.erasures:
            forget(c, event, self.unit.now)


_turns: OrderedDict[str, tuple[float, int]] = OrderedDict()
"""Job → time of its newest file, and how many had that time. A job's files come from one partition, so one process sees them all."""


def _in_turn(job_id: str, at: float) -> float:
    """`at`, and microseconds more for each file of the job that had it before: files are shown in the order they came."""
    last, count = _turns.get(job_id, (at, -1))
    count = count + 1 if last == at else 0
    _turns[job_id] = at, count
    if len(_turns) > 10_000:
        _turns.popitem(last=False)
    return at + count * 1e-6


def created(record: Record) -> float:
    """Creation time of a record that is stored: the one its row has."""
    return float(record.get("created_at") or datetime.fromisoformat(record["creation_date"]).timestamp())


def record_id(event: AlfredEvent[Any]) -> str:
    """The job or file that an event is about."""
    f = event.event
    if f.KIND == "job_event":
        return str(f.job_id)
    return str(getattr(f, "file_id", None) or getattr(f, "file_log_id", ""))


class Folding:
    """The handler of the door's subscription. `tell` gets what commands have come to, once that is durable."""

    def __init__(self, tell: Callable[[Sequence[tuple[str, Record]]], None]) -> None:
        self.tell = tell

    def __call__(self, unit: Unit, batch: Sequence[Inbound]) -> None:
        decisions = on_batch(unit, batch)
        if decisions:
            unit.committed.append(lambda: self.tell(decisions))


def on_batch(unit: Unit, batch: Sequence[Inbound]) -> Sequence[tuple[str, Record]]:
    """`session.events`, `job.events` and `file.events`; answers what commands have come to, by their ids."""
    fold = Fold(unit, batch)
    for item in batch:
        with item.guard():
            m = item.message
            if isinstance(m, SessionEvent):
                _session(fold, m)
            elif isinstance(m, AlfredEvent):
                _alfred(fold, m, item)
            else:
                _other(fold, m)
    fold.save()
    return fold.decisions


def _alfred(fold: Fold, event: AlfredEvent[Any], item: Inbound) -> None:
    if event.event.job_id in fold.gone:
        return
    if event.event.job_id:
        fold.history.append((event.event.job_id, item.value.decode("utf-8", "replace")))
    key = record_id(event)
    if isinstance(event, JOB_EVENTS):
        before = fold.job(key, event.tenant, event.time)
        fold.jobs[key] = after = job_end.fold(before, event)
        if isinstance(event, JobCreate) and after is not before:
            fold.found_by(key, job_view.terms(after))
        return
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
