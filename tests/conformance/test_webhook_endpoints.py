"""What operators do with endpoints, on both databases: secrets that overlap, replays with all attempts, the log's filters."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from services.notifier.adapters import delivery_queue, endpoints
from services.notifier.adapters import sql_store as db
from services.notifier.adapters.delivery_queue import Limits
from services.notifier.core.delivery import Result, judge
from services.notifier.core.secrets import MOST_FORMER
from services.notifier.ports import Attempt, Delivery
from tests.conformance.conftest import Opener

LIMITS = Limits(100, 16, 16, 0)
SCHEDULE = (0.0, 5.0)
"""Two attempts."""


def endpoint(c: Connection, tenant: str = "t", name: str = "e") -> Any:
    row = {
        "id": name, "tenant_id": tenant, "url": "https://example.com/", "secret": "s0", "events": "[]", "description": "",
        "created_at": 0.0, "disabled_reason": None, "failing_since": None, "shape": None, "former_secrets": None,
    }  # fmt: skip
    endpoints.add(c, row)
    return endpoints.find(c, name, tenant)


def deliver(c: Connection, *events: str, at: float = 1.0, name: str = "e") -> None:
    db.add_deliveries(c, [
        {"endpoint_id": name, "event_id": v, "tenant_id": "t", "event_type": "job.finished", "job_id": f"j-{v}", "body": b"{}", "trace": None,
         "state": "pending", "reason": None, "due_at": at, "created_at": at, "position": n}
        for n, v in enumerate(events)
    ])  # fmt: skip


def send(c: Connection, now: float, status: int) -> list[Delivery]:
    """One attempt at everything that is due, with this answer."""
    due = [d for run in delivery_queue.claim(c, now, LIMITS, []) for d in run]
    made = [
        Attempt(f"{d.event_id}-{d.attempt}", d, result := Result(status), judge(result, d.attempt - d.replayed, now, "s", None, SCHEDULE), now)
        for d in due
    ]  # fmt: skip
    db.save_attempts(c, made)
    return due


def states(c: Connection) -> dict[str, int]:
    found: dict[str, int] = endpoints.state_of_deliveries(c, "e")["deliveries"]
    return found


async def test_former_secrets_sign_until_their_time_is_over(opened: Opener) -> None:
    store = await opened("notifier")

    def check(c: Connection) -> None:
        row = endpoint(c)
        for n in range(1, MOST_FORMER + 3):
            endpoints.rotate(c, row, f"s{n}", until=100.0 + n, now=10.0)
            row = endpoints.find(c, "e", "t")
        deliver(c, "a", at=50.0)
        [sent] = send(c, 50.0, 500)
        assert (sent.secret, sent.former_secrets) == ("s6", ("s5", "s4", "s3", "s2"))
        deliver(c, "b", at=105.0)
        found = {d.event_id: d for d in send(c, 105.5, 200)}
        assert found["b"].former_secrets == ("s5",), "each ends at its own time"
        endpoints.rotate(c, endpoints.find(c, "e", "t"), "s7", until=105.6, now=105.6)
        deliver(c, "c", at=105.6)
        found = {d.event_id: d for d in send(c, 105.6, 200)}
        assert (found["c"].secret, found["c"].former_secrets) == ("s7", ()), "without overlap all former secrets end"

    await store.transact(check)


async def test_a_replayed_delivery_has_all_its_attempts_again(opened: Opener) -> None:
    store = await opened("notifier")

    def check(c: Connection) -> None:
        row = endpoint(c)
        deliver(c, "a", "b")
        deliver(c, "c", at=3.0)
        send(c, 10.0, 500)
        send(c, 100.0, 500)
        assert states(c) == {"exhausted": 3}
        assert endpoints.replay(c, row, {"event_id": "a"}, False, 200.0) == 1
        [again] = send(c, 200.0, 500)
        assert (again.event_id, again.attempt) == ("a", 3), "attempts count on, so that the log has each once"
        assert states(c) == {"exhausted": 2, "retrying": 1}, "it is tried as often as a new one"
        send(c, 300.0, 204)
        assert states(c) == {"exhausted": 2, "delivered": 1}
        assert endpoints.replay(c, row, {"since": 2.0}, True, 400.0) == 1
        assert [d.event_id for d in send(c, 400.0, 204)] == ["c"]
        assert endpoints.replay(c, row, {}, True, 500.0) == 1, "what was delivered is not replayed as failed"
        assert endpoints.replay(c, row, {"since": 0.0, "until": 3.0}, False, 500.0) == 1, "b is due already"
        assert endpoints.replay(c, row, {"job_id": "j-c"}, False, 500.0) == 1
        assert sorted(d.event_id for d in send(c, 500.0, 204)) == ["a", "b", "c"]
        assert endpoints.replay(c, row, {"event_id": "unknown"}, False, 500.0) == 0

    await store.transact(check)


async def test_a_replay_of_a_disabled_endpoint_waits(opened: Opener) -> None:
    store = await opened("notifier")

    def check(c: Connection) -> None:
        endpoint(c)
        deliver(c, "a")
        send(c, 10.0, 204)
        db.disable(c, "e", "disabled by ann")
        assert endpoints.replay(c, endpoints.find(c, "e", "t"), {"event_id": "a"}, False, 20.0) == 1
        assert send(c, 20.0, 204) == [] and states(c) == {"suppressed": 1}
        assert db.enable(c, "e", 30.0) == 1
        assert [d.event_id for d in send(c, 30.0, 204)] == ["a"]

    await store.transact(check)


async def test_the_log_is_filtered(opened: Opener) -> None:
    store = await opened("notifier")

    def check(c: Connection) -> None:
        endpoint(c)
        deliver(c, "a", "b")
        send(c, 10.0, 500)
        send(c, 100.0, 204)

        def found(**filters: Any) -> list[str]:
            return [row["id"] for row in endpoints.log(c, "e", filters, 10)]

        assert found() == ["a-2", "b-2", "a-1", "b-1"]
        assert found(outcome="failed") == found(outcome="retrying") == found(until=50.0) == ["a-1", "b-1"]
        assert found(since=50.0) == found(outcome="delivered") == ["a-2", "b-2"]
        assert found(job_id="j-a", event_type="job.finished") == found(event_id="a") == ["a-2", "a-1"]
        assert found(event_type="job.failed") == []
        shown = endpoints.state_of_deliveries(c, "e")
        assert shown == {
            "deliveries": {"delivered": 2},
            "next_attempt_at": None,
            "last_delivered_at": 100.0,
            "last_failed_at": 10.0,
        }

    await store.transact(check)


async def test_an_endpoint_goes_with_its_deliveries_and_another_stays(opened: Opener) -> None:
    store = await opened("notifier")

    def check(c: Connection) -> None:
        endpoint(c)
        endpoint(c, name="other")
        deliver(c, "a")
        deliver(c, "a", name="other")
        endpoints.delete(c, "e")
        assert endpoints.find(c, "e", "t") is None and states(c) == {}
        assert endpoints.state_of_deliveries(c, "other")["deliveries"] == {"pending": 1}
        assert endpoints.find(c, "other", "somebody") is None

    await store.transact(check)
