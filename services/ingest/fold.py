"""One batch of the door's event streams in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from contracts import (
    CommandDecided,
    FileAdded,
    FileAddToJob,
    FileCategoryCreate,
    FileFailed,
    JobErased,
    SessionClosed,
    SessionEvent,
    SessionFiles,
)
from contracts.alfred import AlfredEvent
from contracts.job_events import JOB_EVENTS
from services.ingest.adapters.store import operations as ops
from services.ingest.adapters.store import read_model as rm
from services.ingest.adapters.store.erasures import erased, forget, save_refs
from services.ingest.core import file_view, job_end, job_view
from services.ingest.core.job_end import ends_file
from shared.database.parse_cache import Recent
from shared.database.statements import exclusive
from shared.processing.records import Inbound
from shared.processing.unit_of_work import Unit

Record = dict[str, Any]
HELD_S = 60.0
"""How long a job's end is held back at most: an event that cannot be read must not hide it for ever."""
FINDS = (FileAddToJob, FileFailed, FileCategoryCreate)
"""File events that say something a job is found by."""


class Fold:
    """One batch in memory: records are loaded once, folded in order, written once."""

    def __init__(self, unit: Unit, batch: Sequence[Inbound], recent: Recent[Record]) -> None:
        self.unit = unit
        self.recent = recent
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
        self.jobs = rm.job_records(c, jobs, recent) if jobs else {}
        self.stored = {job_id: record.get("workflow") for job_id, record in self.jobs.items()}
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
        self.repeats = 0

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
        rm.save_jobs(c, ((self.born[i], self.jobs[i]) for i in self.touched["jobs"] if i in self.jobs), self.stored, self.recent)
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
