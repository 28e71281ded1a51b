"""Marks of changed jobs: each change is published, and no more are taken than asked for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Connection, text

from contracts import TaskStatus
from services.job_orchestrator.adapters.catalog import Catalog
from services.job_orchestrator.adapters.sql_store import SqlJobStore
from services.job_orchestrator.core.job import JOB_BRANCH
from shared.database.postgres import PostgresStore
from shared.database.store import Store
from tests.conformance.conftest import Opener
from tests.unit.orchestration import Drive, workflow

FLOW = workflow({"scope": "file"}, {"scope": "job"})


@asynccontextmanager
async def held_open(store: Store, work: Callable[[Connection], Any]) -> AsyncIterator[asyncio.Event]:
    """A transaction that has done `work` and commits at the end of the block, or on SQLite as soon as the event is set."""
    goes_on = asyncio.Event()
    if isinstance(store, PostgresStore):
        async with store.transaction() as connection:
            await connection.run_sync(work)
            yield goes_on
        return
    loop, done, commits = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def waiting(connection: Connection) -> None:
        work(connection)
        loop.call_soon_threadsafe(done.set)
        assert commits.wait(20)

    writing = asyncio.create_task(store.transact(waiting))
    await done.wait()
    releasing = asyncio.create_task(_release(goes_on, commits))
    try:
        yield goes_on
    finally:
        goes_on.set()
        await asyncio.gather(writing, releasing)


async def _release(goes_on: asyncio.Event, commits: threading.Event) -> None:
    await goes_on.wait()
    commits.set()


async def test_a_change_beside_the_publisher_of_another_replica_is_published(opened: Opener) -> None:
    """The mark of an earlier change stands while a replica changes the job again, and another one takes what is marked."""
    one, other = await opened("job_orchestrator"), await opened("job_orchestrator")
    catalogs = {one: Catalog(), other: Catalog()}
    await one.transact(lambda c: catalogs[one].publish(c, FLOW))
    await other.transact(lambda c: catalogs[other].load(c))
    drive = Drive(FLOW, files=1)
    drive.feed(drive.start)

    def save(connection: Connection, store: Store) -> None:
        jobs, job = SqlJobStore(connection, catalogs[store]), drive.job
        assert job is not None
        jobs.load({job.id: {JOB_BRANCH}})
        jobs.save([(job, list(job.branches), None)])

    asks = asyncio.Event()
    loop = asyncio.get_running_loop()

    def published(connection: Connection) -> list[int]:
        loop.call_soon_threadsafe(asks.set)
        jobs = SqlJobStore(connection, catalogs[one])
        return [job.sequence for job in jobs.load_headers(jobs.take_changed(10)).values()]

    await one.transact(lambda c: save(c, one))
    drive.report(drive.tasks[0], TaskStatus.OK)
    assert drive.job is not None
    async with held_open(other, lambda c: save(c, other)) as goes_on:
        taking = asyncio.create_task(one.transact(published))
        await asks.wait()
        if one.shared:
            # It waits for nobody: it skips the job, or it would take the mark.
            await asyncio.wait_for(asyncio.shield(taking), 10)
        goes_on.set()
    found = await taking + await one.transact(published)
    assert found[-1:] == [drive.job.sequence], f"the last state that was published is {found}"
    assert await one.transact(published) == [], "and no mark is left"


async def test_no_more_changed_jobs_are_taken_than_asked_for(opened: Opener) -> None:
    store = await opened("job_orchestrator")
    fill = text("INSERT INTO job_changed (job_id) VALUES (:id)")

    def empty(connection: Connection) -> None:
        connection.execute(fill, [{"id": f"a{n}"} for n in range(3000)])
        connection.execute(text("DELETE FROM job_changed"))
        connection.execute(fill, [{"id": "z"}])

    def check(connection: Connection) -> None:
        connection.execute(fill, [{"id": f"b{n:04}"} for n in range(3000)])
        assert sorted(SqlJobStore(connection, Catalog()).take_changed(500)) == [f"b{n:04}" for n in range(500)]
        assert connection.execute(text("SELECT count(*) FROM job_changed")).scalar_one() == 2501
        if store.shared:
            read = (
                "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables"
                " WHERE relname = 'job_changed' AND schemaname = current_schema()"
            )
            assert connection.execute(text(read)).scalar_one() < 20_000

    await store.transact(empty)
    if store.shared:
        # PostgreSQL now plans for a table of one row. With that plan, a join would run the limited query once per row and take all rows.
        await store.read(lambda c: c.execute(text("VACUUM ANALYZE job_changed")) and None)
    await store.transact(check)
