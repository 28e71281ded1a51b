"""Files of a job that was run again: each job keeps its own record, and the newest has no error of an earlier run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic_core import from_json
from sqlalchemy import Connection, text

from contracts import FileAddToJob, FileDone, FileFailed, FileStatus, FileStatusUpdate, JobCreate, JobErased, Message
from services.ingest.adapters.store import former_files
from services.ingest.handlers import on_batch
from shared.database.store import Store
from shared.processing.records import Inbound
from shared.processing.unit_of_work import Unit
from shared.telemetry.tracing import Telemetry
from tests.conformance.conftest import Opener
from tests.contracts.examples import AT, example

FILES = ("a", "b")


MADE = {"old": 0, "new": 10, "newest": 20}
"""Second in which each job was made."""


def event(kind: Any, job: str, file: str, second: float, **more: Any) -> Message:
    base: Any = example(kind)
    at, made = AT + timedelta(seconds=second), AT + timedelta(seconds=MADE[job])
    changes = {"job_id": job, "file_id": file, "file_name": f"{file}.pdf", "creation_date": made, "update_date": at, **more}
    fields = {k: v for k, v in changes.items() if k in type(base.event).model_fields}
    return kind.of(
        event_id=f"{kind.__name__}/{job}/{file}",
        at=at,
        **{**base.event.model_dump(exclude={"event_name", "event_type"}, exclude_none=True), **fields},
    )


def first_run(job: str, at: float) -> list[Message]:
    added = [event(FileAddToJob, job, file, at) for file in FILES]
    return added + [
        event(FileFailed, job, file, at + 1, file_status=FileStatus.FAILED, code="boom", message="why") for file in FILES
    ]


def second_run(job: str, at: float, file: str = "a") -> list[Message]:
    running = event(FileStatusUpdate, job, file, at, file_status=FileStatus.OCR)
    return [running, event(FileDone, job, file, at + 1, file_status=FileStatus.FINISHED)]


def made(job: str) -> Message:
    """The event that makes a job."""
    base: Any = example(JobCreate)
    at = AT + timedelta(seconds=MADE[job])
    fields = {**base.event.model_dump(exclude={"event_name", "event_type"}, exclude_none=True), "job_id": job}
    return JobCreate.of(event_id=f"made/{job}", at=at, **{**fields, "creation_date": at, "update_date": at, "sequence": 1})


def project(c: Connection, *events: Message) -> None:
    batch = [Inbound(e, "t", 0, n, 0.0, None, e.to_json(), ()) for n, e in enumerate(events)]
    on_batch(Unit(c, 1000.0, "/t", Telemetry("t", "i")), batch)


def files(c: Connection, job: str) -> list[tuple[str, str, str | None, str | None]]:
    found = [from_json(b) for b in c.execute(text(former_files.OF_JOB), {"v": job, "n": 100}).scalars()]
    assert {r["job_id"] for r in found} <= {job}
    return [(r["id"], r["status"], r["code"], r["message"]) for r in found]


OLD = [("a", "failed", "boom", "why"), ("b", "failed", "boom", "why")]
NEW = [("a", "finished", None, None)]


@pytest.fixture
async def store(opened: Opener) -> Store:
    return await opened("ingest")


@pytest.mark.parametrize("batches", ["one", "several"])
async def test_the_old_job_keeps_its_files_as_they_were(store: Store, batches: str) -> None:
    def check(c: Connection) -> None:
        old, new = first_run("old", 0), second_run("new", 10)
        if batches == "one":
            project(c, *old, *new)
        else:
            for one in (*old, *new):
                project(c, one)
        assert files(c, "old") == OLD
        assert files(c, "new") == NEW

    await store.transact(check)


async def test_late_events_of_the_old_job_change_its_own_record(store: Store) -> None:
    def check(c: Connection) -> None:
        added, failed = first_run("old", 0)[:2], first_run("old", 0)[2:]
        project(c, *added)
        project(c, *second_run("new", 10))
        project(c, *failed)
        assert files(c, "old") == [OLD[0], OLD[1]] and files(c, "new") == NEW

    await store.transact(check)


async def test_the_events_of_a_later_job_may_come_first(store: Store) -> None:
    def check(c: Connection) -> None:
        project(c, *second_run("new", 10))
        project(c, *first_run("old", 0))
        assert sorted(files(c, "old")) == OLD and files(c, "new") == NEW

    await store.transact(check)


@pytest.mark.parametrize("jobs_are_known", [True, False])
@pytest.mark.parametrize("late_by", [0.0, 3.0])
async def test_the_end_of_the_old_job_comes_after_the_events_of_the_new_one(
    store: Store, late_by: float, jobs_are_known: bool
) -> None:
    """A job is cancelled and run again in one transaction: its last events have the time of the new job's first, or a later one."""

    def check(c: Connection) -> None:
        if jobs_are_known:
            project(c, *(made(job) for job in ("old", "new")))
        project(c, *first_run("old", 0)[:2])
        project(c, *second_run("new", 10))
        cancelled = event(FileStatusUpdate, "old", "a", 11 + late_by, file_status=FileStatus.CANCELLED)
        project(c, cancelled)
        old = [file for file in files(c, "old") if file[0] == "a"]
        assert [status for _, status, *_ in old] == ["cancelled"], "the old job has the file once"
        assert files(c, "new") == NEW
        project(c, event(FileDone, "new", "a", 20, file_status=FileStatus.FINISHED))
        assert len(files(c, "old")) == 2 and files(c, "new") == NEW

    await store.transact(check)


@pytest.mark.parametrize("jobs_are_known", [True, False])
async def test_a_job_made_at_the_moment_of_the_end_takes_the_file(store: Store, jobs_are_known: bool) -> None:
    """Times of events are rounded to milliseconds, and those of jobs are cut."""

    def check(c: Connection) -> None:
        if jobs_are_known:
            project(c, *(made(job) for job in ("old", "new")))
        project(c, *first_run("old", 0)[:2])
        project(c, event(FileFailed, "old", "a", 10.001, file_status=FileStatus.FAILED, code="boom", message="why"))
        project(c, *second_run("new", 10.001))
        row = from_json(c.execute(text("SELECT body FROM file_view WHERE id = 'a'")).scalar_one())
        assert (row["job_id"], row["status"]) == ("new", "finished")
        assert files(c, "old") == [OLD[0], ("b", "uploaded", None, None)] and files(c, "new") == NEW

    await store.transact(check)


async def test_the_first_event_of_the_old_job_may_come_last(store: Store) -> None:
    def check(c: Connection) -> None:
        project(c, *(made(job) for job in ("old", "new")))
        project(c, *second_run("new", 10))
        project(c, event(FileFailed, "old", "a", 12, file_status=FileStatus.FAILED, code="boom", message="why"))
        assert [file[:2] for file in files(c, "old")] == [("a", "failed")] and files(c, "new") == NEW

    await store.transact(check)


async def test_a_record_that_an_earlier_release_wrote_twice_is_shown_once(store: Store) -> None:
    def check(c: Connection) -> None:
        project(c, *first_run("old", 0))
        record = from_json(c.execute(text("SELECT body FROM file_view WHERE id = 'a'")).scalar_one())
        former_files.save(c, {("old", "a"): record}, {"a": 1.0}, 1.0)
        assert files(c, "old") == OLD

    await store.transact(check)


async def test_erasing_one_job_leaves_the_files_of_the_other(store: Store) -> None:
    def gone(job: str) -> JobErased:
        return JobErased(event_id=f"gone/{job}", job_id=job, tenant_id=tenant, occurred_at=AT)

    [tenant] = {e.tenant for e in first_run("old", 0)}

    def check(c: Connection) -> None:
        project(c, *first_run("old", 0), *second_run("new", 10), *second_run("newest", 20))
        project(c, gone("new"))
        assert files(c, "new") == [] and files(c, "newest") == NEW and files(c, "old") == OLD
        project(c, gone("newest"))
        assert files(c, "newest") == [] and files(c, "old") == OLD, "the file is the old job's again"
        project(c, gone("old"))
        assert files(c, "old") == []
        for table in ("file_view", "former_file", "blob_ref"):
            assert c.execute(text(f"SELECT count(*) FROM {table}")).scalar() == 0, table

    await store.transact(check)
