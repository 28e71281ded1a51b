"""The records that one batch of events concerns: loaded once, changed in memory, written once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from contracts import CommandDecided, JobErased
from services.ingest.adapters.store import operations as ops
from services.ingest.adapters.store import read_model as rm
from services.ingest.adapters.store.erasures import erase_job, erased, save_refs
from services.ingest.core import file_view, job_end, job_view
from services.ingest.core.record_keys import RecordKeys
from shared.database.statements import exclusive
from shared.processing.unit_of_work import Unit

Record = dict[str, Any]
HOLD_S = 60.0
"""Longest time that a job's end is held back: a file event that cannot be read must not hide the end for ever."""
LOCK = "fold"
"""Name of the lock on the read model, which all replicas use."""


class RecordBatch:
    """Records by id, and what the batch adds to history, terms, answers and audit. `save` writes all of it."""

    def __init__(self, unit: Unit, keys: RecordKeys) -> None:
        self.unit = unit
        c = unit.connection
        # Events of one job come from topics with different keys, so two replicas may change the same record.
        exclusive(c, LOCK)
        self.erased = erased(c, keys.jobs | keys.named_jobs)
        self.jobs = rm.records(c, "job_view", keys.jobs) if keys.jobs else {}
        self.files = rm.records(c, "file_view", keys.files) if keys.files else {}
        self.sessions = rm.records(c, "session_view", keys.sessions) if keys.sessions else {}
        unknown = keys.jobs - self.jobs.keys()
        self._early_ends = rm.early_ends(c, unknown) if unknown else {}
        self._stored_early = set(self._early_ends)
        self._stored_workflows = {job_id: record.get("workflow") for job_id, record in self.jobs.items()}
        self._stored_held = {job_id for job_id, record in self.jobs.items() if record.get("ending")}
        self._created: dict[str, float] = {}
        self._changed: dict[str, set[str]] = {"jobs": set(), "files": set(), "sessions": set()}
        self._terms: list[tuple[str, str, float, str]] = []
        self.history: list[tuple[str, str]] = []
        self.decisions: list[tuple[str, Record]] = []
        self.audit: list[CommandDecided] = []
        self.to_index: list[Record] = []
        self.erasures: list[JobErased] = []
        self.duplicates = 0

    def job(self, job_id: str, tenant: str, at: datetime) -> Record:
        """The job's record, which the caller will replace; a new one if there is none."""
        self._changed["jobs"].add(job_id)
        known = self.jobs.get(job_id)
        self._created.setdefault(job_id, created_at(known) if known else at.timestamp())
        return known or {**job_view.new_job(job_id, tenant, at), "file_ends_read": self._early_ends.pop(job_id, 0)}

    def file(self, file_id: str, tenant: str, at: datetime, job_id: str | None = None) -> Record:
        """The file's record, which the caller will replace; a new one if there is none. Files of a job keep their order of arrival."""
        self._changed["files"].add(file_id)
        if file_id not in self._created:
            self._created[file_id] = _time_in_order(job_id, at.timestamp()) if job_id else at.timestamp()
        return self.files.get(file_id) or file_view.new_file(file_id, tenant, at)

    def save_session(self, session: Record) -> None:
        """Replace a session's record."""
        self._changed["sessions"].add(session["id"])
        self.sessions[session["id"]] = session

    def count_file_end(self, job_id: str) -> None:
        """One more file of the job has ended. Of an unknown job only the count is kept: it may be long gone."""
        record = self.jobs.get(job_id)
        if record is None:
            self._early_ends[job_id] = self._early_ends.get(job_id, 0) + 1
        else:
            self._created.setdefault(job_id, created_at(record))
            self._changed["jobs"].add(job_id)
            self.jobs[job_id] = job_end.file_ended(record)

    def add_terms(self, job_id: str, terms: Iterable[str]) -> None:
        """Searches find the job by `terms` from now on."""
        record = self.jobs.get(job_id)
        if record is not None:
            at = self._created.setdefault(job_id, created_at(record))
            self._terms += [(record["company_id"], term, at, job_id) for term in terms]

    def save(self) -> None:
        """Write everything that changed."""
        c, now = self.unit.connection, self.unit.now
        jobs = [self.jobs[i] for i in self._changed["jobs"] if i in self.jobs]
        files = [self.files[i] for i in self._changed["files"] if i in self.files]
        rm.save_jobs(c, ((self._created[r["id"]], r) for r in jobs), self._stored_workflows)
        rm.save_files(c, ((self._created[r["id"]], r) for r in files))
        rm.save_sessions(c, (self.sessions[i] for i in self._changed["sessions"]))
        rm.save_history(c, self.history)
        rm.save_decisions(c, self.decisions, now)
        rm.await_index(c, self.to_index)
        ops.save_terms(c, self._terms)
        ops.save_audit(c, self.audit)
        save_refs(c, files)
        save_refs(c, (r for r in jobs if r.get("outputs")))
        rm.save_early_ends(c, self._early_ends, self._stored_early - self._early_ends.keys(), now)
        held = {r["id"] for r in jobs if r.get("ending")}
        shown = (self._stored_held & self._changed["jobs"]) - held
        rm.hold_ends(c, held - self._stored_held, shown, now + HOLD_S)
        for event in self.erasures:
            erase_job(c, event, now)


_newest_files: OrderedDict[str, tuple[float, int]] = OrderedDict()
"""Job → time of its newest file, and how many files had that time before it. One partition has all files of a job, so one process does."""
_MAX_JOBS = 10_000


def _time_in_order(job_id: str, at: float) -> float:
    """`at` plus a microsecond for each earlier file of the job with the same time: lists show files in order of arrival."""
    last, count = _newest_files.get(job_id, (at, -1))
    count = count + 1 if last == at else 0
    _newest_files[job_id] = at, count
    if len(_newest_files) > _MAX_JOBS:
        _newest_files.popitem(last=False)
    return at + count * 1e-6


def created_at(record: Record) -> float:
    """Creation time of a stored record in Unix seconds, as its row has it."""
    return float(record.get("created_at") or datetime.fromisoformat(record["creation_date"]).timestamp())
