"""Claiming of deliveries: in order of due time, and no endpoint starves behind another one's backlog."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.util import await_only

from services.notifier.adapters import delivery_queue
from services.notifier.adapters import sql_store as db
from services.notifier.adapters.delivery_queue import Limits
from services.notifier.core.delivery import Result, judge
from services.notifier.ports import Attempt, Delivery
from shared.database.store import Store
from tests.conformance.conftest import Opener


@pytest.fixture
async def state(opened: Opener) -> Store:
    """A notifier's store with two endpoints."""

    def endpoints(connection: Connection) -> None:
        for name in ("slow", "other"):
            endpoint(connection, name, f"https://{name}.example/hook")

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


def limits(in_flight: int, per_endpoint: int = 16, per_address: int = 100, reserved: int = 0) -> Limits:
    return Limits(in_flight, per_endpoint, per_address, reserved)


def endpoint(connection: Connection, name: str, url: str) -> None:
    row = {"id": name, "tenant_id": "t", "url": url, "secret": "s", "events": "[]", "description": "", "created_at": 0.0}
    connection.execute(db.EndpointRow.__table__.insert(), row)  # type: ignore[attr-defined]


def jobs_of(runs: Iterable[delivery_queue.Run]) -> set[delivery_queue.Job]:
    return {delivery_queue.job_of(run[0]) for run in runs}


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
        first = delivery_queue.claim(connection, 10.0, limits(5), set())
        big = [f"big-{n:04}" for n in range(delivery_queue.RUN)]
        assert events(first) == [("slow", big), ("other", ["small-0000"])]
        busy = {delivery_queue.job_of(run[0]) for run in first}
        assert events(delivery_queue.claim(connection, 10.0, limits(5), busy)) == [("slow", ["late-0000"])], (
            "behind a page of a busy job"
        )

    await state.transact(check)


async def test_one_run_per_endpoint_and_job_in_the_order_of_events(state: Store) -> None:
    def check(connection: Connection) -> None:
        due(connection, "slow", "a", delivery_queue.RUN + 1)
        (first,) = delivery_queue.claim(connection, 10.0, limits(5), set())
        assert delivery_queue.claim(connection, 10.0, limits(5), {delivery_queue.job_of(first[0])}) == []
        assert delivery_queue.claim(connection, 10.0, limits(5), set()) == [], "a delivery in flight is not claimed again"
        for delivery in first:
            settle(connection, delivery)
        (second,) = delivery_queue.claim(connection, 10.0, limits(5), set())
        assert [d.event_id for d in first + second] == [f"a-{n:04}" for n in range(delivery_queue.RUN + 1)]

    await state.transact(check)


async def test_an_endpoint_takes_no_more_slots_than_its_limit(state: Store) -> None:
    def check(connection: Connection) -> None:
        for n in range(30):
            due(connection, "slow", f"job-{n:02}", 1)
        due(connection, "other", "late", 1, at=2.0)
        first = delivery_queue.claim(connection, 10.0, limits(100), set())
        assert [run[0].endpoint_id for run in first] == ["slow"] * 16 + ["other"]
        busy = {delivery_queue.job_of(run[0]) for run in first[:15]}
        assert len(delivery_queue.claim(connection, 10.0, limits(100), busy)) == 1
        assert len(delivery_queue.claim(connection, 10.0 + delivery_queue.LEASE_S, limits(20, 100), set())) == 20, (
            "all endpoints together stay within the limit"
        )

    await state.transact(check)


async def test_endpoints_of_one_address_share_its_limit_and_each_has_a_place(state: Store) -> None:
    def check(connection: Connection) -> None:
        for name in ("a", "b", "c", "d"):
            endpoint(connection, name, f"https://Shared.example:8443/{name}")
            for n in range(10):
                due(connection, name, f"{name}-{n}", 1, at=float(ord(name)))
        due(connection, "other", "elsewhere", 1, at=200.0)
        shared = limits(100, per_endpoint=4, per_address=6)
        first = delivery_queue.claim(connection, 300.0, shared, set())
        assert [run[0].endpoint_id for run in first] == ["a"] * 4 + ["b"] * 2 + ["c", "d", "other"]
        assert delivery_queue.claim(connection, 300.0, shared, jobs_of(first)) == [], "the address is full"
        ended = [run for run in first if run[0].endpoint_id != "c"]
        assert [run[0].endpoint_id for run in delivery_queue.claim(connection, 300.0, shared, jobs_of(ended))] == ["c"]

    await state.transact(check)


async def test_many_slow_endpoints_leave_places_to_those_with_nothing_in_flight(state: Store) -> None:
    def check(connection: Connection) -> None:
        for number in range(4):
            endpoint(connection, f"s{number}", f"https://s{number}.example/hook")
            for n in range(10):
                due(connection, f"s{number}", f"s{number}-{n}", 1)
        kept = limits(20, per_endpoint=10, reserved=5)
        slow = delivery_queue.claim(connection, 10.0, kept, set())
        assert [run[0].endpoint_id for run in slow] == ["s0"] * 10 + ["s1"] * 5 + ["s2", "s3"]
        due(connection, "other", "late", 2, at=5.0)
        due(connection, "other", "later", 1, at=6.0)
        assert events(delivery_queue.claim(connection, 10.0, kept, jobs_of(slow))) == [("other", ["late-0000", "late-0001"])]

    await state.transact(check)


async def test_what_is_held_back_by_a_410_is_due_after_enable(state: Store) -> None:
    def check(connection: Connection) -> None:
        for job in ("gone", "queued", "crashed"):
            due(connection, "slow", job, 1, at={"gone": 1.0, "queued": 20.0, "crashed": 2.0}[job])
        gone, _ = [run[0] for run in delivery_queue.claim(connection, 10.0, limits(5), set())]
        settle(connection, gone, Result(410))
        late = 10.0 + delivery_queue.LEASE_S + 1
        assert delivery_queue.claim(connection, late, limits(5), set()) == [], "a lease that ends sends nothing to it"
        assert delivery_queue.next_due(connection) is None
        rows = connection.execute(text("SELECT state, reason, count(*) AS n FROM delivery GROUP BY state, reason")).all()
        assert [tuple(r) for r in rows] == [("suppressed", "disabled", 3)]
        assert db.enable(connection, "slow", late) == 3
        again = [run[0] for run in delivery_queue.claim(connection, late, limits(5), set())]
        assert sorted((d.event_id, d.attempt) for d in again) == [("crashed-0000", 1), ("gone-0000", 2), ("queued-0000", 1)]

    await state.transact(check)


async def test_an_endpoint_with_deliveries_in_flight_alone_hides_no_other(state: Store) -> None:
    def check(connection: Connection) -> None:
        due(connection, "slow", "a", 3)
        due(connection, "other", "b", 1, at=2.0)
        assert events(delivery_queue.claim(connection, 10.0, limits(2), {("slow", "a")})) == [("other", ["b-0000"])]

    await state.transact(check)


async def test_large_bodies_make_short_runs(state: Store) -> None:
    def check(connection: Connection) -> None:
        due(connection, "slow", "a", 3, body=b"x" * (delivery_queue.RUN_BYTES // 2))
        due(connection, "other", "b", 2, body=b"x" * (delivery_queue.RUN_BYTES + 1))
        assert [len(run) for run in delivery_queue.claim(connection, 10.0, limits(5), set())] == [2, 1]

    await state.transact(check)


async def test_a_claimed_delivery_returns_before_its_successors_when_its_lease_ends(state: Store) -> None:
    def check(connection: Connection) -> None:
        due(connection, "slow", "a", 2)
        assert len(delivery_queue.claim(connection, 10.0, limits(5), set())) == 1
        due(connection, "slow", "a", 5, at=11.0)
        assert delivery_queue.claim(connection, 10.0 + delivery_queue.LEASE_S - 1, limits(5), set()) == []
        (again,) = delivery_queue.claim(connection, 10.0 + delivery_queue.LEASE_S + 1, limits(5), set())
        assert [d.event_id for d in again] == [f"a-{n:04}" for n in range(5)]
        assert again[0].attempt == 1, "an attempt that was never recorded does not count"

    await state.transact(check)


async def test_untried_deliveries_are_returned_unchanged(state: Store) -> None:
    def check(connection: Connection) -> None:
        due(connection, "slow", "a", 3)
        (run,) = delivery_queue.claim(connection, 10.0, limits(5), set())
        settle(connection, run[0])
        delivery_queue.release(connection, run[1:])
        delivery_queue.release(connection, run[:1])  # too late, because it is delivered already
        (again,) = delivery_queue.claim(connection, 10.0, limits(5), set())
        assert (
            again == run[1:] and connection.execute(text("SELECT count(*) FROM delivery WHERE state = 'delivered'")).scalar() == 1
        )

    await state.transact(check)


async def test_attempts_are_settled_together(state: Store) -> None:
    def check(connection: Connection) -> None:
        due(connection, "slow", "a", 2)
        due(connection, "other", "b", 1)
        taken, refused, gone = [d for run in delivery_queue.claim(connection, 10.0, limits(5), set()) for d in run]
        made = [
            Attempt(d.event_id, d, result, judge(result, 1, 10.0, "s", None), 10.0)
            for d, result in ((taken, Result(200)), (refused, Result(503)), (gone, Result(410)))
        ]
        db.save_attempts(connection, made)
        db.mark_failing(connection, {"slow": 10.0, "other": None})
        assert db.standing(connection, ["slow", "other", "no such"]) == {"slow": (10.0, False), "other": (None, True)}
        rows = connection.execute(text("SELECT event_id, state, attempt, due_at FROM delivery ORDER BY event_id")).all()
        assert [(r.event_id, r.state, r.attempt) for r in rows] == [
            ("a-0000", "delivered", 1), ("a-0001", "retrying", 1), ("b-0000", "suppressed", 1),
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
    (first,) = await state.transact(lambda c: delivery_queue.claim(c, 10.0, limits(5), set()))
    await state.transact(lambda c: due(c, "slow", "a", 4))
    assert await replica.transact(lambda c: delivery_queue.claim(c, 10.0, limits(5), set())) == []
    for delivery in first:
        await state.transact(lambda c, d=delivery: settle(c, d))  # type: ignore[misc]
    (second,) = await replica.transact(lambda c: delivery_queue.claim(c, 11.0, limits(5), set()))
    assert [d.event_id for d in second] == ["a-0003"]


async def test_what_another_replica_ends_between_two_statements_is_left_out(
    opened: Opener, state: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await opened("notifier")
    await state.transact(lambda c: due(c, "slow", "a", 3))
    await state.transact(lambda c: due(c, "slow", "gone", 1))
    first_of = delivery_queue._first_of

    def end_some(connection: Connection) -> None:
        for words in (
            "DELETE FROM delivery WHERE event_id IN ('a-0001', 'gone-0000')",
            "UPDATE delivery SET state = 'delivered', due_at = NULL WHERE event_id = 'a-0000'",
        ):
            connection.execute(text(words))

    def claim(connection: Connection) -> list[delivery_queue.Run]:
        def chosen(rows: Any) -> list[str]:
            found = first_of(rows)
            if found[0].startswith("gone"):
                # On PostgreSQL another replica commits now. SQLite has one writer, so there it is the same connection.
                between(connection)
            return found

        monkeypatch.setattr(delivery_queue, "_first_of", chosen)
        return delivery_queue.claim(connection, 10.0, limits(5), set())

    def between(connection: Connection) -> None:
        if state.shared:
            await_only(other.transact(end_some))
        else:
            end_some(connection)

    (run,) = await state.transact(claim)
    assert [(d.event_id, d.due_at) for d in run] == [("a-0002", 1.0)], "with its former time"


async def test_a_late_or_repeated_release_ends_no_later_lease(state: Store) -> None:
    def check(connection: Connection) -> None:
        due(connection, "slow", "a", 2)
        (first,) = delivery_queue.claim(connection, 10.0, limits(5), set())
        delivery_queue.release(connection, first)
        (second,) = delivery_queue.claim(connection, 11.0, limits(5), set())
        delivery_queue.release(connection, first)
        assert delivery_queue.claim(connection, 12.0, limits(5), set()) == [], "another replica sends them"
        delivery_queue.release(connection, second)
        assert len(delivery_queue.claim(connection, 13.0, limits(5), set())) == 1

    await state.transact(check)
