"""The records that one batch of events concerns: loaded once, changed in memory, written once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from contracts import CommandDecided, FileErased, JobErased, SessionErased
from contracts.alfred import AlfredEvent
from services.ingest.adapters.store import former_files, known_names, recycle_bin
from services.ingest.adapters.store import operations as ops
from services.ingest.adapters.store import read_model as rm
from services.ingest.adapters.store.erasures import erase_job, erase_session, erased, save_refs
from services.ingest.adapters.store.reservations import settle_ended
from services.ingest.core import file_view, job_end, job_view
from services.ingest.core.record_keys import RecordKeys
from services.ingest.settings import IngestSettings
from shared.database.statements import exclusive
from shared.processing.unit_of_work import Unit

Record = dict[str, Any]
HOLD_S = 60.0
"""Longest time that a job's end is held back: a file event that cannot be read must not hide the end for ever."""
ROUNDED = timedelta(milliseconds=1)
"""By how much a time may differ from the same time in another field."""
LOCK = "fold"
"""Name of the lock on the read model, which all replicas use."""


class RecordBatch:
    """Records by id, and what the batch adds to history, terms, answers and audit. `save` writes all of it."""

    def __init__(self, unit: Unit, keys: RecordKeys, settings: IngestSettings) -> None:
        self.unit = unit
        self.settings = settings
        c = unit.connection
        # Events of one job come from topics with different keys, so two replicas may change the same record.
        exclusive(c, LOCK)
        self.erased = erased(c, keys.jobs | keys.named_jobs)
        self.jobs = rm.records(c, "job_view", keys.jobs) if keys.jobs else {}
        self.erased_files = recycle_bin.erased_files(c, keys.files) if keys.files else set()
        """Pairs of job and file."""
        self.files = rm.records(c, "file_view", keys.files) if keys.files else {}
        self.sessions = rm.records(c, "session_view", keys.sessions) if keys.sessions else {}
        unknown = keys.jobs - self.jobs.keys()
        self._early_ends = rm.early_ends(c, unknown) if unknown else {}
        self._stored_early = set(self._early_ends)
        self._stored_workflows = {job_id: record.get("workflow") for job_id, record in self.jobs.items()}
        self._stored_held = {job_id for job_id, record in self.jobs.items() if record.get("ending")}
        self._created: dict[str, float] = {}
        self._former: dict[tuple[str, str], Record] = {}
        """Job and file → the job's record of a file that has a newer job."""
        self._changed: dict[str, set[str]] = {"jobs": set(), "files": set(), "sessions": set()}
        self._terms: list[tuple[str, str, float, str]] = []
        self.history: list[tuple[str, str]] = []
        self.decisions: list[tuple[str, Record]] = []
        self.audit: list[CommandDecided] = []
        self.to_index: list[Record] = []
        self.erasures: list[JobErased | FileErased | SessionErased] = []
        self._bin: dict[str, Record | None] = {}
        """Files that were recycled, with their records; None for those that have left the recycle bin."""
        self._unsearched: set[str] = set()
        self._left: list[tuple[str, str]] = []
        """Jobs and the files of which they keep no earlier record."""
        self._terms_of: set[str] = set()
        """Jobs that have lost a file or a tag."""
        self.stored_sizes: dict[str, int | None] = {}
        """Files that were downloaded or have ended → their size, None when they never got one."""
        self.duplicates = 0
        self.foreign = 0
        """Records that were left alone, because they belong to another tenant than the event."""

    def job(self, job_id: str, tenant: str, at: datetime) -> Record:
        """The job's record, which the caller will replace; a new one if there is none."""
        self._changed["jobs"].add(job_id)
        known = self.jobs.get(job_id)
        self._created.setdefault(job_id, created_at(known) if known else at.timestamp())
        return known or {**job_view.new_job(job_id, tenant, at), "file_ends_read": self._early_ends.pop(job_id, 0)}

    def file(self, file_id: str, tenant: str, at: datetime, job_id: str | None = None) -> Record | None:
        """The file's record, which the caller will replace; a new one if there is none. Files of a job keep their order of arrival.

        None for the id of another tenant's file: producers choose ids, and nobody may change what is not theirs.
        """
        known = self.files.get(file_id)
        if known is not None and known["company_id"] != tenant:
            self.foreign += 1
            return None
        self._changed["files"].add(file_id)
        if file_id not in self._created:
            self._created[file_id] = _time_in_order(job_id, at.timestamp()) if job_id else at.timestamp()
        return known or file_view.new_file(file_id, tenant, at)

    def former_file(self, record: Record, event: AlfredEvent[Any]) -> Record | None:
        """The record that `event` changes instead of `record`: the event's job had the file before the record's job.

        Else None. Where a newer job takes the file, the record's job keeps its own.
        """
        job_id, own, file_id = event.event.job_id, record["job_id"], record["id"]
        if job_id is None or own is None or own == job_id:
            return None
        # The events of jobs come in the order of each job. Those of an earlier one may come after the first of a later one.
        kept = self._former.get((job_id, file_id)) or former_files.load(self.unit.connection, job_id, file_id)
        if kept is None and self._is_newer(event, record):
            self._former[own, file_id] = record
            return None
        return kept or file_view.without_job(record, event.time)

    def _is_newer(self, event: AlfredEvent[Any], record: Record) -> bool:
        """True when the event's job was made after the record's job."""
        own = record["job_id"]
        known = self.jobs.get(own) or rm.records(self.unit.connection, "job_view", {own}).get(own)
        of_own = str(known["creation_date"]) if known is not None else None
        made: datetime | None = getattr(event.event, "creation_date", None)
        if of_own is not None and made is not None and job_view.text(made) != of_own:
            return job_view.text(made) > of_own
        # A job is run again after its end. Times of events are rounded, those of jobs are cut.
        return job_view.text((made + ROUNDED) if made is not None else event.time) >= str(record["update_date"])

    def save_former(self, job_id: str, record: Record) -> None:
        """Replace a job's record of a file that has a newer job."""
        self._former[job_id, record["id"]] = record

    def leave_job(self, file_id: str, tenant: str, previous: str, job_id: str) -> None:
        """The file has gone from the job `previous` to another one."""
        record = self.files.get(file_id)
        if record is not None and record["company_id"] != tenant:
            return
        if record is not None and record["job_id"] == previous:
            self.files[file_id] = {**record, "job_id": job_id, "previous_job_id": previous}
        # Nor does the job keep an earlier record of a file that comes back to it.
        for job in (previous, job_id):
            self._former.pop((job, file_id), None)
            self._left.append((job, file_id))
        self._terms_of.add(previous)

    def recycle(self, record: Record) -> None:
        """The file is in the recycle bin, and no search finds it."""
        self._bin[record["id"]] = record
        self.leave_search(record["id"])

    def restore(self, record: Record) -> None:
        """The file has left the recycle bin."""
        self._bin[record["id"]] = None

    def leave_search(self, file_id: str) -> None:
        """No search finds the file by its text."""
        self.to_index = [row for row in self.to_index if row["file_id"] != file_id]
        self._unsearched.add(file_id)

    def index(self, record: Record) -> None:
        """The file's text waits for the full-text index, if it has one."""
        if record.get("index_blob"):
            row = {
                "file_id": record["id"], "tenant_id": record["company_id"], "file_name": record["file_name"], "blob": record["index_blob"],
            }  # fmt: skip
            self.to_index.append(row)
            self._unsearched.discard(record["id"])

    def lose_terms(self, job_id: str) -> None:
        """Searches may not find the job any more by a tag or a name."""
        self._terms_of.add(job_id)

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

    def changed_jobs(self) -> dict[str, Record]:
        """Records of the jobs that the batch changed, by id."""
        return {i: self.jobs[i] for i in self._changed["jobs"] if i in self.jobs}

    def save(self) -> None:
        """Write everything that changed."""
        c, now = self.unit.connection, self.unit.now
        jobs = [self.jobs[i] for i in self._changed["jobs"] if i in self.jobs]
        files = [self.files[i] for i in self._changed["files"] if i in self.files]
        rm.save_jobs(c, ((self._created[r["id"]], r) for r in jobs), self._stored_workflows)
        former_files.save(c, self._former, self._created, now)
        rm.save_files(c, ((self._created[r["id"]], r) for r in files))
        rm.save_sessions(c, (self.sessions[i] for i in self._changed["sessions"]))
        rm.save_history(c, self.history)
        rm.save_decisions(c, self.decisions, now)
        rm.await_index(c, self.to_index)
        ops.save_terms(c, self._terms)
        known_names.add_names(c, (name for record in files for name in known_names.names_in(record)))
        self._save_file_acts()
        ops.save_audit(c, self.audit)
        save_refs(c, files)
        save_refs(c, (r for r in jobs if r.get("outputs")))
        if self.stored_sizes:
            settle_ended(c, self.stored_sizes, now)
        rm.save_early_ends(c, self._early_ends, self._stored_early - self._early_ends.keys(), now)
        held = {r["id"] for r in jobs if r.get("ending")}
        shown = (self._stored_held & self._changed["jobs"]) - held
        rm.hold_ends(c, held - self._stored_held, shown, now + HOLD_S)
        for event in self.erasures:
            if isinstance(event, JobErased):
                erase_job(c, event, now)
            elif isinstance(event, FileErased):
                recycle_bin.erase_file(c, event, now)
            else:
                erase_session(c, event, now)

    def _save_file_acts(self) -> None:
        c = self.unit.connection
        for job_id, file_id in self._left:
            if (job_id, file_id) not in self._former:
                former_files.drop(c, job_id, file_id)
        recycle_bin.save_bin(c, self._bin, self.unit.now)
        if self._unsearched:
            recycle_bin.leave_search(c, self._unsearched)
        for job_id in sorted(self._terms_of):
            recycle_bin.refresh_terms(c, job_id)


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
