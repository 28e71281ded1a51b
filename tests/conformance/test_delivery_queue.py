"""Claiming of deliveries: in order of due time, and no endpoint starves behind another one's backlog."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from sqlalchemy import Connection, text

from services.notifier.adapters import delivery_queue
from services.notifier.adapters import sql_store as db
from services.notifier.core.delivery import Result, judge
from services.notifier.ports import Attempt, Delivery
from shared.database.store import Store
from tests.conformance.conftest import Opener


@pytest.fixture
async def state(opened: Opener) -> Store:
    """A notifier's store with two endpoints."""

    def endpoints(connection: Connection) -> None:
        for name in ("slow", "other"):
            row = {"id": name, "tenant_id": "t", "url": "u", "secret": "s", "events": "[]", "description": "", "created_at": 0.0}
            connection.execute(db.EndpointRow.__table__.insert(), row)  # type: ignore[attr-defined]

    store = await opened("notifier")
    await store.transact(endpoints)
    return store


def due(connection: Connection, endpoint: str, job: str, count: int, at: float = 1.0, body: bytes = b"{}") -> None:
    rows: list[dict[str, Any]] = [
        {
            "endpoint_id": endpoint, "event_id": f"{job}-{n:04}", "tenant_id": "t", "event_type": "x", "job_id": job, "body": body,
            "trace": None, "state": "pending", "reason": None, "due_at": at, "created_at": at, "position": n,
        }
        for n in range(count)
    ]  # fmt: skip
    db.add_deliveries(connection, rows)


def events(runs: Iterable[delivery_queue.Run]) -> list[tuple[str, list[str]]]:
    return [(run[0].endpoint_id, [d.event_id for d in run]) for run in runs]


def settle(connection: Connection, delivery: Delivery, result: Result = Result(204), now: float = 10.0) -> None:
    verdict = judge(result, delivery.attempt, now, "s", None)
    db.save_attempts(connection, [Attempt(f"{delivery.event_id}/{delivery.attempt}", delivery, result, verdict, now)])


async def test_a_backlog_of_one_job_hides_no_other_delivery(state: Store) -> None:
    def check(connection: Connection) -> None:
        due(connection, "slow", "big", 2 * delivery_queue.PAGE)
        due(connection, "slow", "late", 1, at=1.5)
        due(connection, "other", "small", 1, at=2.0)
        first = delivery_queue.claim(connection, 10.0, 5, set(), 16)
        big = [f"big-{n:04}" for n in range(delivery_queue.RUN)]
        assert events(first) == [("slow", big), ("other", ["small-0000"])]
        busy = {delivery_queue.job_of(run[0]) for run in first}
        assert events(delivery_queue.claim(connection, 10.0, 5, busy, 16)) == [("slow", ["late-0000"])], (
            "behind a page of a busy job"
        )

    await state.transact(check)


async def test_one_run_per_endpoint_and_job_in_the_order_of_events(state: Store) -> None:
    def check(connection: Connection) -> None:
        due(connection, "slow", "a", delivery_queue.RUN + 1)
        (first,) = delivery_queue.claim(connection, 10.0, 5, set(), 16)
        assert delivery_queue.claim(connection, 10.0, 5, {delivery_queue.job_of(first[0])}, 16) == []
        assert delivery_queue.claim(connection, 10.0, 5, set(), 16) == [], "a delivery in flight is not claimed again"
        for delivery in first:
            settle(connection, delivery)
        (second,) = delivery_queue.claim(connection, 10.0, 5, set(), 16)
        assert [d.event_id for d in first + second] == [f"a-{n:04}" for n in range(delivery_queue.RUN + 1)]

    await state.transact(check)


async def test_an_endpoint_takes_no_more_slots_than_its_limit(state: Store) -> None:
    def check(connection: Connection) -> None:
        for n in range(30):
            due(connection, "slow", f"job-{n:02}", 1)
        due(connection, "other", "late", 1, at=2.0)
        first = delivery_queue.claim(connection, 10.0, 100, set(), 16)
        assert [run[0].endpoint_id for run in first] == ["slow"] * 16 + ["other"]
        busy = {delivery_queue.job_of(run[0]) for run in first[:15]}
        assert len(delivery_queue.claim(connection, 10.0, 100, busy, 16)) == 1
        assert len(delivery_queue.claim(connection, 10.0 + delivery_queue.LEASE_S, 20, set(), 100)) == 20, (
            "all endpoints together stay within the limit"
        )

    await state.transact(check)


async def test_an_endpoint_with_deliveries_in_flight_alone_hides_no_other(state: Store) -> None:
    def check(connection: Connection) -> None:
        due(connection, "slow", "a", 3)
        due(connection, "other", "b", 1, at=2.0)
        assert events(delivery_queue.claim(connection, 10.0, 1, {("slow", "a")}, 16)) == [("other", ["b-0000"])]

    await state.transact(check)


async def test_large_bodies_make_short_runs(state: Store) -> None:
    def check(connection: Connection) -> None:
        due(connection, "slow", "a", 3, body=b"x" * (delivery_queue.RUN_BYTES // 2))
        due(connection, "other", "b", 2, body=b"x" * (delivery_queue.RUN_BYTES + 1))
        assert [len(run) for run in delivery_queue.claim(connection, 10.0, 5, set(), 16)] == [2, 1]

    await state.transact(check)


async def test_a_claimed_delivery_returns_before_its_successors_when_its_lease_ends(state: Store) -> None:
    def check(connection: Connection) -> None:
        due(connection, "slow", "a", 2)
        assert len(delivery_queue.claim(connection, 10.0, 5, set(), 16)) == 1
        due(connection, "slow", "a", 5, at=11.0)
        assert delivery_queue.claim(connection, 10.0 + delivery_queue.LEASE_S - 1, 5, set(), 16) == []
        (again,) = delivery_queue.claim(connection, 10.0 + delivery_queue.LEASE_S + 1, 5, set(), 16)
        assert [d.event_id for d in again] == [f"a-{n:04}" for n in range(5)]
        assert again[0].attempt == 1, "an attempt that was never recorded does not count"

    await state.transact(check)


async def test_untried_deliveries_are_returned_unchanged(state: Store) -> None:
    def check(connection: Connection) -> None:
        due(connection, "slow", "a", 3)
        (run,) = delivery_queue.claim(connection, 10.0, 5, set(), 16)
        settle(connection, run[0])
        delivery_queue.release(connection, run[1:])
        delivery_queue.release(connection, run[:1])  # too late, because it is delivered already
        (again,) = delivery_queue.claim(connection, 10.0, 5, set(), 16)
        assert (
            again == run[1:] and connection.execute(text("SELECT count(*) FROM delivery WHERE state = 'delivered'")).scalar() == 1
        )

    await state.transact(check)


async def test_attempts_are_settled_together(state: Store) -> None:
    def check(connection: Connection) -> None:
        due(connection, "slow", "a", 2)
        due(connection, "other", "b", 1)
        taken, refused, gone = [d for run in delivery_queue.claim(connection, 10.0, 5, set(), 16) for d in run]
        made = [
            Attempt(d.event_id, d, result, judge(result, 1, 10.0, "s", None), 10.0)
            for d, result in ((taken, Result(200)), (refused, Result(503)), (gone, Result(410)))
        ]
        db.save_attempts(connection, made)
        db.mark_failing(connection, {"slow": 10.0, "other": None})
        assert db.standing(connection, ["slow", "other", "no such"]) == {"slow": (10.0, False), "other": (None, True)}
        rows = connection.execute(text("SELECT event_id, state, attempt, due_at FROM delivery ORDER BY event_id")).all()
        assert [(r.event_id, r.state, r.attempt) for r in rows] == [
            ("a-0000", "delivered", 1), ("a-0001", "retrying", 1), ("b-0000", "exhausted", 1),
        ]  # fmt: skip
        assert rows[1].due_at > 10.0
        assert connection.execute(text("SELECT count(*) FROM attempt")).scalar() == 3

    await state.transact(check)


async def test_a_repeated_event_makes_no_second_delivery(state: Store) -> None:
    def check(connection: Connection) -> None:
        due(connection, "slow", "a", 1)
        due(connection, "slow", "a", 1)
        assert connection.execute(text("SELECT count(*) FROM delivery")).scalar() == 1

    await state.transact(check)


async def test_another_replica_takes_neither_the_delivery_nor_the_next_of_its_job(opened: Opener, state: Store) -> None:
    replica = await opened("notifier")
    await state.transact(lambda c: due(c, "slow", "a", 3))
    (first,) = await state.transact(lambda c: delivery_queue.claim(c, 10.0, 5, set(), 16))
    await state.transact(lambda c: due(c, "slow", "a", 4))
    assert await replica.transact(lambda c: delivery_queue.claim(c, 10.0, 5, set(), 16)) == []
    for delivery in first:
        await state.transact(lambda c, d=delivery: settle(c, d))  # type: ignore[misc]
    (second,) = await replica.transact(lambda c: delivery_queue.claim(c, 11.0, 5, set(), 16))
    assert [d.event_id for d in second] == ["a-0003"]
