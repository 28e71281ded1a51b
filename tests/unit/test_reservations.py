"""Reservations within quotas, and claims on objects, as state machines on an in-memory database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import Connection, MetaData, create_engine, text

from services.ingest.adapters.store import object_claims as claims
from services.ingest.adapters.store import reservations as r
from services.ingest.schema import MODELS
from shared.database.store import table_of


@dataclass(frozen=True)
class Caps:
    jobs_open: int | None = None
    files_per_day: int | None = None
    bytes_per_day: int | None = None


TABLES = {
    "reservation", "usage_day", "job_view", "file_view", "erased", "object_claim", "doomed_object", "blob_ref", "silo_file", "upload_part",
    "index_pending",
}  # fmt: skip


def database() -> Connection:
    """A connection to an empty database with the gateway's tables."""
    metadata = MetaData()
    for model in MODELS:
        if table_of(model).name in TABLES:
            table_of(model).to_metadata(metadata)
    connection = create_engine("sqlite://").connect().execution_options(isolation_level="AUTOCOMMIT")
    metadata.create_all(connection)
    return connection


def job(connection: Connection, job_id: str, stage: str, tenant: str = "t") -> None:
    connection.execute(
        text(
            "INSERT INTO job_view (id, tenant_id, created_at, body, stage) VALUES (:i, :t, 1, '{}', :s) ON CONFLICT (id) DO UPDATE SET stage = :s"
        ),
        {"i": job_id, "t": tenant, "s": stage},
    )


NOW = 1_700_000_000.0


def test_an_accepted_job_counts_from_its_reservation_to_its_end() -> None:
    c, caps = database(), Caps(jobs_open=1)
    assert r.reserve(c, "t", caps, [r.job_place("a")], NOW, 60) == {"a"}
    for stage in ("queued", "in_progress"):
        with pytest.raises(r.OverLimit):
            r.reserve(c, "t", caps, [r.job_place("b")], NOW, 60)
        assert r.open_jobs(c, "t", 10, NOW) == 1, "before and after the read model has the job it counts once"
        job(c, "a", stage)
    job(c, "a", "completed")
    assert r.open_jobs(c, "t", 10, NOW) == 0 and r.reserve(c, "t", caps, [r.job_place("b")], NOW, 60) == {"b"}


def test_a_repeat_costs_nothing_at_any_time() -> None:
    c, caps = database(), Caps(jobs_open=1, files_per_day=1)
    places = [r.job_place("a"), r.remote_place("f", 100)]
    assert r.reserve(c, "t", caps, places, NOW, 60) == {"a", "f"} and r.reserve(c, "t", caps, places, NOW, 60) == set()
    job(c, "a", "completed")
    r.settle_ended(c, {"f": 7, "unknown": 9}, NOW)
    c.execute(text("INSERT INTO file_view (id, tenant_id, created_at, body) VALUES ('f', 't', 1, '{}')"))
    assert r.used_today(c, "t", NOW) == {"files": 1, "bytes": 7}
    assert r.reserve(c, "t", caps, places, NOW, 60) == set(), "the file quota is used up, and yet a repeat is admitted"
    with pytest.raises(r.OverLimit, match="1 files today"):
        r.reserve(c, "t", caps, [r.remote_place("g", 100)], NOW, 60)


def test_remote_files_share_what_is_left() -> None:
    c, caps = database(), Caps(bytes_per_day=100)
    assert r.reserve(c, "t", caps, [r.remote_place(i, 70) for i in "ab"], NOW, 60) == {"a", "b"}
    with pytest.raises(r.OverLimit, match="100 bytes today"):
        r.reserve(c, "t", caps, [r.remote_place("c", 70)], NOW, 60)
    r.settle_ended(c, {"a": 10}, NOW)
    assert r.reserve(c, "t", caps, [r.remote_place("c", 70)], NOW, 60) == {"c"}


def test_a_body_of_unknown_length_grows_as_far_as_the_quota() -> None:
    c, caps = database(), Caps(bytes_per_day=100)
    r.reserve(c, "t", caps, [r.Place("a", files=1), r.Place("b", files=1, bytes=40)], NOW, 60)
    r.grow(c, "t", caps, "a", 60, NOW)
    with pytest.raises(r.OverLimit):
        r.grow(c, "t", caps, "a", 61, NOW)
    r.release(c, "t", ["b"])
    r.grow(c, "t", caps, "a", 100, NOW)


def test_what_a_dead_process_reserved_ends() -> None:
    c, caps = database(), Caps(jobs_open=1, files_per_day=1)
    r.reserve(c, "t", caps, [r.job_place("a"), r.Place("f", files=1)], NOW, 60)
    assert r.reserve(c, "t", caps, [r.job_place("b"), r.Place("g", files=1)], NOW + 61, 60) == {"b", "g"}


class Reserving(RuleBasedStateMachine):
    """Whatever happens in whatever order, what is held and used stays within the quotas, and nothing is held for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.c = database()
        self.caps = Caps(jobs_open=3, files_per_day=6, bytes_per_day=100)
        self.now = NOW
        self.number = 0
        self.held: dict[str, tuple[r.Place, float]] = {}
        self.used = [0, 0]
        self.running: set[str] = set()

    def _live(self) -> list[r.Place]:
        return [p for p, until in self.held.values() if until >= self.now]

    @rule(size=st.integers(0, 60), files=st.integers(0, 2), starts=st.booleans())
    def reserve(self, size: int, files: int, starts: bool) -> None:
        self.number += 1
        files, size = (0, 0) if starts else (files, size)
        place = r.Place(f"p{self.number}", int(starts), files, size)
        live = self._live()
        jobs = sum(p.jobs for p in live if p.id not in self.running) + len(self.running) + place.jobs
        total = self.used[0] + sum(p.files for p in live) + files
        least = (size or 1) if files or size else 0
        volume = self.used[1] + sum(p.bytes for p in live) + least
        fits = (not starts or jobs <= 3) and (not files or total <= 6) and (not least or volume <= 100)
        try:
            made = r.reserve(self.c, "t", self.caps, [place], self.now, 60)
        except r.OverLimit:
            assert not fits
        else:
            assert fits and made == {place.id}
            self.held[place.id] = (place, self.now + 60)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), size=st.integers(0, 100))
    def settle(self, data: st.DataObject, size: int) -> None:
        place, _ = self.held.pop(data.draw(st.sampled_from(sorted(self.held))))
        size = min(size, place.bytes)
        r.settle(self.c, "t", place.id, place.files, size, self.now)
        self.used = [self.used[0] + place.files, self.used[1] + size]

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        place_id = data.draw(st.sampled_from(sorted(self.held)))
        del self.held[place_id]
        r.release(self.c, "t", [place_id])

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def project(self, data: st.DataObject) -> None:
        place_id = data.draw(st.sampled_from(sorted(self.held)))
        if self.held[place_id][0].jobs:
            job(self.c, place_id, "queued")
            self.running.add(place_id)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.running)))
        self.running.discard(job_id)
        self.held.pop(job_id, None)
        r.release(self.c, "t", [job_id])
        job(self.c, job_id, "completed")

    @rule()
    def time_passes(self) -> None:
        self.now += 61
        self.held = {}

    @invariant()
    def open_jobs_have_no_gap(self) -> None:
        waiting = sum(p.jobs for p in self._live() if p.id not in self.running)
        assert r.open_jobs(self.c, "t", 100, self.now) == waiting + len(self.running)


class Deleting(RuleBasedStateMachine):
    """Uploads, references, deletions and crashes of equal content in any order: an object that a file needs exists."""

    def __init__(self) -> None:
        super().__init__()
        self.c = database()
        self.now = NOW
        self.exists = False
        self.safe: set[str] = set()
        """Uploads whose object is stored, and must stay."""
        self.waiting: set[str] = set()
        """Uploads that have claimed the object while it was being deleted, and store it afterwards."""
        self.deleting = False
        self.number = 0

    @rule()
    def upload(self) -> None:
        self.number += 1
        file_id = f"f{self.number}"
        if claims.claim(self.c, "t/b", file_id, self.now).free:
            self.exists = True
            self.safe.add(file_id)
        else:
            self.waiting.add(file_id)

    @precondition(lambda self: self.waiting)
    @rule()
    def store_after_the_deletion(self) -> None:
        if claims.is_free(self.c, "t/b", self.now):
            self.exists = True
            self.safe |= self.waiting
            self.waiting = set()

    @precondition(lambda self: self.safe)
    @rule(data=st.data())
    def projected(self, data: st.DataObject) -> None:
        file_id = data.draw(st.sampled_from(sorted(self.safe)))
        self.c.execute(text("INSERT INTO blob_ref (blob, file_id) VALUES ('t/b', :f) ON CONFLICT DO NOTHING"), {"f": file_id})

    @precondition(lambda self: self.safe)
    @rule(data=st.data())
    def erased(self, data: st.DataObject) -> None:
        file_id = data.draw(st.sampled_from(sorted(self.safe)))
        self.safe.discard(file_id)
        for table in ("blob_ref", "object_claim"):
            self.c.execute(text(f"DELETE FROM {table} WHERE file_id = :f"), {"f": file_id})
        claims.doom(self.c, ["t/b"], self.now)

    @rule()
    def collected(self) -> None:
        if not claims.needed(self.c, ["t/b"], self.now):
            claims.doom(self.c, ["t/b"], self.now)

    @precondition(lambda self: not self.deleting)
    @rule()
    def lease(self) -> None:
        self.deleting = bool(claims.due(self.c, self.now, 10)) and claims.lease(self.c, "t/b", self.now)

    @precondition(lambda self: self.deleting)
    @rule(crash=st.booleans())
    def delete(self, crash: bool) -> None:
        self.exists = False
        self.deleting = False
        if crash:
            self.now += claims.LEASE_S
        else:
            claims.deleted(self.c, "t/b")

    @precondition(lambda self: self.deleting)
    @rule()
    def fail(self) -> None:
        self.deleting = False
        claims.try_later(self.c, "t/b", 1, self.now)
        self.now += claims.LONGEST_S

    @invariant()
    def what_is_needed_exists(self) -> None:
        assert self.exists or not self.safe


TestReserving = Reserving.TestCase
TestReserving.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestDeleting = Deleting.TestCase
TestDeleting.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_a_claim_outlives_no_day() -> None:
    c: Any = database()
    assert claims.claim(c, "t/b", "f", NOW).free and claims.needed(c, ["t/b", "t/c"], NOW) == {"t/b"}
    assert claims.needed(c, ["t/b"], NOW + claims.CLAIM_S) == set()


def test_a_file_counts_once_however_often_it_is_sent() -> None:
    c = database()
    assert claims.claim_and_count(c, "t", "t/b", "f", 5, NOW) == (True, True, True)
    assert claims.claim_and_count(c, "t", "t/b", "f", 5, NOW) == (True, False, False)
    assert r.used_today(c, "t", NOW) == {"files": 1, "bytes": 5}
