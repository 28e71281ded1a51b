"""Who is sent to next: in order of due time, and nobody starves behind somebody else's backlog."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, text

from services.notifier.adapters import sql_store as db
from services.notifier.core.delivery import Result, judge
from shared.store import Store
from tests.conformance.conftest import Opener


@pytest.fixture
async def desk(opened: Opener) -> Store:
    """A notifier's store with two endpoints."""

    def endpoints(connection: Connection) -> None:
        for name in ("slow", "other"):
            row = {"id": name, "tenant_id": "t", "url": "u", "secret": "s", "events": "[]", "description": "", "created_at": 0.0}
            connection.execute(db.EndpointRow.__table__.insert(), row)  # type: ignore[attr-defined]

    store = await opened("notifier")
    await store.transact(endpoints)
    return store


def due(connection: Connection, endpoint: str, job: str, count: int, at: float = 1.0) -> None:
    rows: list[dict[str, Any]] = [
        {
            "endpoint_id": endpoint, "event_id": f"{job}-{n:04}", "tenant_id": "t", "event_type": "x", "job_id": job, "body": b"{}",
            "trace": None, "state": "pending", "reason": None, "due_at": at, "created_at": at, "position": n,
        }
        for n in range(count)
    ]  # fmt: skip
    db.add_deliveries(connection, rows)


async def test_a_backlog_of_one_job_hides_nobody(desk: Store) -> None:
    def check(connection: Connection) -> None:
        due(connection, "slow", "big", 1000)
        due(connection, "other", "small", 1, at=2.0)
        claimed = db.claim(connection, 10.0, 5, {}, 16, set())
        assert [(d.endpoint_id, d.event_id) for d in claimed] == [("slow", "big-0000"), ("other", "small-0000")]

    await desk.transact(check)


async def test_one_delivery_per_endpoint_and_job_in_the_order_of_events(desk: Store) -> None:
    def check(connection: Connection) -> None:
        due(connection, "slow", "a", 3)
        busy: dict[str, int] = {}
        jobs: set[Any] = set()
        order: list[str] = []
        for attempt in range(3):
            (delivery,) = db.claim(connection, 10.0, 5, busy, 16, jobs)
            assert db.claim(connection, 10.0, 5, busy, 16, jobs) == []
            order.append(delivery.event_id)
            db.settle(connection, delivery, Result(204), judge(Result(204), 1, 10.0, "s", None), f"attempt-{attempt}", 10.0)
            busy.clear()
            jobs.clear()
        assert order == ["a-0000", "a-0001", "a-0002"]

    await desk.transact(check)


async def test_an_endpoint_takes_no_more_places_than_it_may(desk: Store) -> None:
    def check(connection: Connection) -> None:
        for n in range(30):
            due(connection, "slow", f"job-{n:02}", 1)
        due(connection, "other", "late", 1, at=2.0)
        busy: dict[str, int] = {}
        jobs: set[Any] = set()
        first = db.claim(connection, 10.0, 100, busy, 16, jobs)
        assert sum(d.endpoint_id == "slow" for d in first) == 16 and first[-1].endpoint_id == "other"

    await desk.transact(check)


async def test_what_was_claimed_comes_back_when_its_lease_ends(desk: Store) -> None:
    def check(connection: Connection) -> None:
        due(connection, "slow", "a", 1)
        assert len(db.claim(connection, 10.0, 5, {}, 16, set())) == 1
        assert db.claim(connection, 10.0 + db.LEASE_S - 1, 5, {}, 16, set()) == []
        (again,) = db.claim(connection, 10.0 + db.LEASE_S + 1, 5, {}, 16, set())
        assert again.attempt == 1, "an attempt that was never recorded does not count"

    await desk.transact(check)


async def test_a_repeated_event_makes_no_second_delivery(desk: Store) -> None:
    def check(connection: Connection) -> None:
        due(connection, "slow", "a", 1)
        due(connection, "slow", "a", 1)
        assert connection.execute(text("SELECT count(*) FROM delivery")).scalar() == 1

    await desk.transact(check)


async def test_another_replica_takes_neither_the_delivery_nor_the_next_of_its_job(opened: Opener, desk: Store) -> None:
    replica = await opened("notifier")
    await desk.transact(lambda c: due(c, "slow", "a", 3))
    (first,) = await desk.transact(lambda c: db.claim(c, 10.0, 5, {}, 16, set()))
    assert first.event_id == "a-0000"
    assert await replica.transact(lambda c: db.claim(c, 10.0, 5, {}, 16, set())) == []
    verdict = judge(Result(204), 1, 10.0, "s", None)
    await desk.transact(lambda c: db.settle(c, first, Result(204), verdict, "attempt-1", 10.0))
    (second,) = await replica.transact(lambda c: db.claim(c, 11.0, 5, {}, 16, set()))
    assert second.event_id == "a-0001"
