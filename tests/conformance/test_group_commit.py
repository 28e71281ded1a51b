"""Transactions that are asked for at the same time are each durable or not at all, whichever share a commit."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import OperationalError

from shared.database.open import open_store
from shared.database.sqlite import SqliteStore
from shared.database.store import mark_seen
from shared.errors import DeadLetter, Retry
from tests.conformance.conftest import Opener


async def test_one_that_fails_leaves_the_others_alone(opened: Opener) -> None:
    store = await opened("session")

    def work(number: int) -> int:
        def mark(c: Connection) -> int:
            mark_seen(c, [f"m{number}"], 1.0)
            if number % 5 == 0:
                raise DeadLetter("no", f"{number}")
            return number

        return mark  # type: ignore[return-value]

    results = await asyncio.gather(*(store.transact(work(n)) for n in range(40)), return_exceptions=True)  # type: ignore[arg-type]
    assert [r for r in results if isinstance(r, int)] == [n for n in range(40) if n % 5]
    assert sorted(str(r) for r in results if isinstance(r, DeadLetter)) == sorted(str(n) for n in range(0, 40, 5))
    kept = await store.read(lambda c: set(c.execute(text("SELECT message_id FROM seen")).scalars()))
    assert kept == {f"m{n}" for n in range(40) if n % 5}


@pytest.fixture
async def store(opened: Opener) -> SqliteStore:
    found = await opened("session")
    if not isinstance(found, SqliteStore):
        pytest.skip("PostgreSQL groups commits itself")
    return found


async def test_many_share_one_commit(store: SqliteStore) -> None:
    commits: list[int] = []
    event.listen(store.engine, "commit", lambda connection: commits.append(1))
    await asyncio.gather(*(store.transact(lambda c, n=n: mark_seen(c, [f"m{n}"], 1.0)) for n in range(200)))  # type: ignore[misc]
    assert len(commits) <= 10


async def test_an_error_of_the_database_keeps_nothing_of_the_group(store: SqliteStore) -> None:
    def broken(c: Connection) -> None:
        raise OperationalError("x", {}, Exception("disk I/O error"))

    first = store.transact(lambda c: c.execute(text("SELECT 1")).scalar())
    group = [
        store.transact(lambda c: mark_seen(c, ["a"], 1.0)),
        store.transact(broken),
        store.transact(lambda c: mark_seen(c, ["b"], 1.0)),
    ]
    results = await asyncio.gather(first, *group, return_exceptions=True)
    kept = await store.read(lambda c: set(c.execute(text("SELECT message_id FROM seen")).scalars()))
    told = {name for name, result in zip(("a", "b"), (results[1], results[3]), strict=True) if not isinstance(result, Retry)}
    assert kept == told and isinstance(results[2], Retry)


async def test_a_lookup_sees_what_was_committed_just_before(store: SqliteStore) -> None:
    for number in range(20):
        await store.transact(lambda c, n=number: mark_seen(c, [f"m{n}"], 1.0))  # type: ignore[misc]
        assert await store.look_up(lambda c: c.execute(text("SELECT count(*) FROM seen")).scalar()) == number + 1


async def test_what_was_cancelled_before_its_turn_is_not_written(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/x.db")
    await store.transact(lambda c: c.execute(text("CREATE TABLE t (a int)")) and None)
    running = [
        asyncio.create_task(store.transact(lambda c: c.execute(text("INSERT INTO t VALUES (1)")) and None)) for _ in range(3)
    ]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    assert await store.read(lambda c: c.execute(text("SELECT count(*) FROM t")).scalar()) == 0
    await store.close()
