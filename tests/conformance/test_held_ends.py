"""The read model shows a job's end together with the last of its files, or after a minute. On both databases."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, text

from contracts import JobErased, to_record
from services.ingest.adapters.background.held_ends import release
from services.ingest.adapters.store import read_model as rm
from services.ingest.adapters.store.record_batch import HOLD_S
from services.ingest.handlers import on_batch
from shared.database.store import Store
from shared.processing.records import Inbound
from shared.processing.unit_of_work import Unit
from shared.telemetry.tracing import Telemetry
from tests.conformance.conftest import Opener
from tests.unit.orchestration import Drive, workflow


def ended_job() -> tuple[list[Any], list[Any]]:
    """The events of a job of two files: those of `job.events`, and those of `file.events`."""
    drive = Drive(workflow({}), files=2)
    drive.feed(drive.start)
    for task in list(drive.tasks):
        drive.report(task)
    ours = [e for e in drive.events if e.event.KIND == "job_event"]
    return ours, [e for e in drive.events if e.event.KIND != "job_event"]


async def fold(store: Store, events: list[Any], now: float) -> None:
    """Apply one batch of events."""

    def inside(connection: Connection) -> None:
        unit = Unit(connection, now, "/t", Telemetry("t", "i"))
        on_batch(unit, [Inbound(e, "t", 0, 0, 0.0, None, to_record(e, "/t").value, ()) for e in events])

    await store.transact(inside)


async def shown(store: Store) -> tuple[str, int]:
    """The job's stage in its record and in the search, and the number of held ends."""

    def look(connection: Connection) -> tuple[str, int]:
        stage = connection.execute(text("SELECT stage FROM job_view")).scalar_one()
        assert rm.records(connection, "job_view", ["job-1"])["job-1"]["stage"] == stage
        held = connection.execute(text("SELECT count(*) FROM held_end")).scalar_one()
        return str(stage), int(held)

    return await store.read(look)


async def test_the_end_is_shown_with_the_last_file(opened: Opener) -> None:
    store = await opened("ingest")
    ours, theirs = ended_job()
    await fold(store, ours, 1_000.0)
    before = await shown(store)
    assert before[0] not in ("completed", "failed") and before[1] == 1
    await fold(store, theirs[:-1], 1_001.0)
    assert await shown(store) == before
    await fold(store, theirs[-1:], 1_002.0)
    assert await shown(store) == ("completed", 0)


async def test_the_end_is_not_hidden_for_ever(opened: Opener) -> None:
    store = await opened("ingest")
    ours, theirs = ended_job()
    await fold(store, ours, 1_000.0)
    assert await store.transact(lambda c: release(c, 1_000.0 + HOLD_S)) == []
    assert await store.transact(lambda c: release(c, 1_000.1 + HOLD_S)) == ["job-1"]
    assert await shown(store) == ("completed", 0)
    await fold(store, theirs, 2_000.0)
    assert await shown(store) == ("completed", 0), "later events do not change the end"


async def test_files_that_are_read_first_are_counted(opened: Opener) -> None:
    store = await opened("ingest")
    ours, theirs = ended_job()
    await fold(store, theirs[:-1], 1_000.0)
    assert await store.read(lambda c: rm.records(c, "job_view", ["job-1"])) == {}, (
        "events of files alone create no job, because it may be erased"
    )
    await fold(store, theirs[-1:], 1_001.0)
    assert await store.read(lambda c: rm.early_ends(c, ["job-1", "x"])) == {"job-1": 2}
    await fold(store, ours, 1_002.0)
    assert await shown(store) == ("completed", 0)
    assert await store.read(lambda c: rm.early_ends(c, ["job-1"])) == {}


async def test_both_in_one_batch(opened: Opener) -> None:
    store = await opened("ingest")
    ours, theirs = ended_job()
    await fold(store, [*theirs, *ours], 1_000.0)
    assert await shown(store) == ("completed", 0)


async def test_an_end_that_is_held_back_is_erased_too(opened: Opener) -> None:
    store = await opened("ingest")
    ours, _ = ended_job()
    await fold(store, ours, 1_000.0)
    gone = JobErased(event_id="e", job_id="job-1", tenant_id="t1", occurred_at=ours[0].time, by="u", reason="", part=0, blobs=())
    await fold(store, [gone], 1_001.0)
    assert await store.read(lambda c: c.execute(text("SELECT count(*) FROM held_end")).scalar()) == 0
