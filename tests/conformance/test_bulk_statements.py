"""Many rows in one statement do what one statement per row does, in both databases."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from shared.database.bulk_statements import BulkStatement
from shared.database.migrate import migrate
from shared.database.open import open_store
from shared.database.statements import Statement, as_list, is_shared
from shared.errors import Retry
from shared.kafka.outgoing import Outgoing
from shared.processing.outbox_codec import INSERT_SHARDS, insert_batch, shard_values, unpack
from tests.conformance.conftest import Opener

_CONFLICT = "ON CONFLICT (job_id, lane_id) DO UPDATE SET lease = excluded.lease, due_at = excluded.due_at"
_VALUES = "INSERT INTO lane (job_id, lane_id, lease, due_at, body) VALUES (:job_id, :lane_id, :lease, :at, :body)"
_ARRAYS = (
    "INSERT INTO lane (job_id, lane_id, lease, due_at, body) SELECT * FROM unnest(CAST(:job_id AS text[]), CAST(:lane_id AS text[]), "
    "CAST(:lease AS text[]), CAST(:at AS double precision[]), CAST(:body AS text[]))"
)
_LANE = BulkStatement(f"{_VALUES} {_CONFLICT}", f"{_ARRAYS} {_CONFLICT}")
_NEW = BulkStatement(_VALUES, _ARRAYS)
_MOVE = BulkStatement(
    "UPDATE lane SET lease = :lease, due_at = :at WHERE job_id = :job_id AND lane_id = :lane_id",
    "UPDATE lane SET lease = given.lease, due_at = given.at FROM unnest(CAST(:job_id AS text[]), CAST(:lane_id AS text[]), "
    "CAST(:lease AS text[]), CAST(:at AS double precision[])) AS given(job_id, lane_id, lease, at) "
    "WHERE lane.job_id = given.job_id AND lane.lane_id = given.lane_id",
)
_LEAVE = BulkStatement(
    "DELETE FROM lane WHERE job_id = :job_id AND lane_id = :lane_id",
    "DELETE FROM lane USING unnest(CAST(:job_id AS text[]), CAST(:lane_id AS text[])) AS given(job_id, lane_id) "
    "WHERE lane.job_id = given.job_id AND lane.lane_id = given.lane_id",
)
_NEW_ROW = Statement(_VALUES)
_SOME = Statement("SELECT job_id, lease FROM lane WHERE job_id IN (SELECT value FROM [ids]) ORDER BY job_id")
_NONE = Statement("DELETE FROM lane WHERE job_id IN (SELECT value FROM [ids])")


def lane(n: int, lease: str = "a", at: float | None = None) -> dict[str, Any]:
    return {"job_id": f"j{n}", "lane_id": "f", "lease": lease, "at": at, "body": "{}"}


def lanes(connection: Connection) -> list[tuple[str, str, float | None, str]]:
    rows = connection.execute(text("SELECT job_id, lease, due_at, body FROM lane ORDER BY job_id")).all()
    return [(r[0], r[1], r[2], r[3]) for r in rows]


async def test_rows_are_inserted_updated_and_deleted(opened: Opener) -> None:
    store = await opened("job_orchestrator")

    def work(connection: Connection) -> list[tuple[str, str, float | None, str]]:
        _LANE.run(connection, [lane(n, at=n if n % 2 else None) for n in range(6)])
        _LANE.run(connection, [lane(1, "b", 7.5), lane(9, "b")])
        _MOVE.run(connection, [lane(2, "c"), lane(3, "c", 3.25), lane(77, "c")])
        _LEAVE.run(
            connection,
            [{"job_id": "j0", "lane_id": "f"}, {"job_id": "j4", "lane_id": "f"}, {"job_id": "j5", "lane_id": "x"}],
        )
        _LEAVE.run(connection, [])
        return lanes(connection)

    assert await store.transact(work) == [
        ("j1", "b", 7.5, "{}"), ("j2", "c", None, "{}"), ("j3", "c", 3.25, "{}"), ("j5", "a", 5.0, "{}"), ("j9", "b", None, "{}"),
    ]  # fmt: skip


async def test_what_is_decided_is_one_row_per_shard_in_the_order_given(opened: Opener) -> None:
    store = await opened("session")
    rows = [Outgoing("t", None if n % 3 else b"k", bytes([n % 256, 0, 255]), (("h", b"\xff"),)) for n in range(1000)]
    batches = {"0": rows[0::2], "1": rows[1::2]}

    def work(connection: Connection) -> Any:
        if is_shared(connection):
            connection.execute(text(INSERT_SHARDS), shard_values(batches, 1.5))
        else:
            ids = [insert_batch(connection, shard, batch, 1.5) for shard, batch in batches.items()]
            assert ids == list(connection.execute(text("SELECT id FROM outbox_batch ORDER BY shard")).scalars())
        return connection.execute(text("SELECT * FROM outbox_batch ORDER BY shard")).all()

    found = await store.transact(work)
    assert [(r.shard, r.records, r.created_at) for r in found] == [("0", 500, 1.5), ("1", 500, 1.5)]
    assert {r.shard: unpack(r.body) for r in found} == batches


async def test_a_statement_gives_its_rows_as_tuples(opened: Opener) -> None:
    store = await opened("job_orchestrator")

    def work(connection: Connection) -> tuple[list[Any], list[Any], list[Any]]:
        _LANE.run(connection, [lane(n, f"l{n}") for n in range(4)])
        wanted = {"ids": as_list(["j3", "j1", "j9"])}
        return list(_SOME.rows(connection, wanted)), list(_NONE.rows(connection, wanted)), lanes(connection)

    found, said, left = await store.transact(work)
    assert found == [("j1", "l1"), ("j3", "l3")]
    assert said == []
    assert [row[0] for row in left] == ["j0", "j2"]


class Fault(Exception):
    """What a handler meets."""


async def test_a_transaction_that_fails_leaves_nothing_of_its_rows(opened: Opener) -> None:
    store = await opened("job_orchestrator")

    def work(connection: Connection) -> None:
        _LANE.run(connection, [lane(1), lane(2)])
        _NEW_ROW.rows(connection, lane(3))
        raise Fault

    with pytest.raises(Fault):
        await store.transact(work)
    assert await store.read(lanes) == []


@pytest.mark.parametrize("how", [lambda c: _NEW.run(c, [lane(1), lane(2)]), lambda c: _NEW_ROW.rows(c, lane(1))])
async def test_what_the_database_refuses_is_said_in_the_words_of_sqlalchemy(opened: Opener, how: Any) -> None:
    store = await opened("job_orchestrator")
    await store.transact(lambda c: _NEW.run(c, [lane(1)]))

    def work(connection: Connection) -> None:
        with pytest.raises(IntegrityError):
            how(connection)
        raise Fault

    with pytest.raises(Fault):
        await store.transact(work)


@pytest.mark.parametrize("how", [lambda c: _NEW.run(c, [lane(2)]), lambda c: _NEW_ROW.rows(c, lane(2))])
async def test_a_file_that_another_process_writes_to_is_tried_again(tmp_path: Path, how: Any) -> None:
    store = open_store(f"sqlite:///{tmp_path}/lanes.db")
    await migrate(store, "job_orchestrator")
    other = sqlite3.connect(tmp_path / "lanes.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    def work(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA busy_timeout = 0")
        how(connection)

    try:
        with pytest.raises(Retry, match="locked"):
            await store.transact(work)
        other.execute("ROLLBACK")
        await store.transact(work)
        assert [row[0] for row in await store.read(lanes)] == ["j2"]
    finally:
        other.close()
        await store.close()
