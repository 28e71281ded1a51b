"""What is taken from a table that is full and empty by turns, whatever the database believes of it."""

from __future__ import annotations

from sqlalchemy import Connection, text

from services.job_orchestrator.adapters.sql_store import Catalog, SqlJobStore
from tests.conformance.conftest import Opener


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
