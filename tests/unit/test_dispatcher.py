"""The notifier's dispatcher: limits of a run, free slots, and unsent deliveries returned at shutdown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from contracts import WebhookChanged
from contracts.topics import WEBHOOK_ANSWERS_TOPIC
from services.notifier.adapters import delivery_queue
from services.notifier.adapters import sql_store as db
from services.notifier.adapters.delivery_queue import Limits
from services.notifier.core.delivery import Result
from services.notifier.dispatcher import Dispatcher
from services.notifier.ports import Delivery
from shared.database.migrate import migrate
from shared.database.open import open_store
from shared.database.store import Store
from shared.processing.processor import BatchProcessor
from shared.telemetry.tracing import Telemetry
from tests.eventually import eventually
from tests.unit.fake_relay import NotingRelay

EVENTS = 50


class Sending:
    """A sender that records its deliveries. The test sets each answer and its time."""

    def __init__(self, answer: Callable[[Delivery], Result] = lambda delivery: Result(204)) -> None:
        self.answer = answer
        self.sent: list[str] = []
        self.open = asyncio.Event()
        self.open.set()

    async def send(self, delivery: Delivery, timestamp: int) -> Result:
        """Note and answer."""
        self.sent.append(delivery.event_id)
        await self.open.wait()
        return self.answer(delivery)


@pytest.fixture
async def state(tmp_path: Path) -> AsyncIterator[Store]:
    """A notifier's store: 50 events of one job are due for one endpoint."""
    store = open_store(f"sqlite:///{tmp_path}/notifier.db")
    await migrate(store, "notifier")

    def fill(connection: Connection) -> None:
        endpoint = {"id": "e", "tenant_id": "t", "url": "u", "secret": "s", "events": "[]", "description": "", "created_at": 0.0}
        connection.execute(db.EndpointRow.__table__.insert(), endpoint)  # type: ignore[attr-defined]
        rows: list[dict[str, Any]] = [
            {
                "endpoint_id": "e", "event_id": f"{n:04}", "tenant_id": "t", "event_type": "x", "job_id": "a", "body": b"{}",
                "trace": None, "state": "pending", "reason": None, "due_at": 1.0, "created_at": 1.0, "position": n,
            }
            for n in range(EVENTS)
        ]  # fmt: skip
        db.add_deliveries(connection, rows)

    await store.transact(fill)
    yield store
    await store.close()


def dispatcher(store: Store, sender: Sending, timeout_s: float = 15.0) -> Dispatcher:
    telemetry = Telemetry("notifier", "test")
    return Dispatcher(
        BatchProcessor("notifier", store, NotingRelay(), telemetry),
        sender,
        telemetry,
        (0, 3600),
        Limits(200, 16, 64, 50),
        timeout_s,
    )


async def states(store: Store) -> dict[str, int]:
    query = "SELECT state, count(*) FROM delivery GROUP BY state"
    return {state: n for state, n in await store.read(lambda c: c.exec_driver_sql(query).all())}


async def test_a_job_s_events_are_sent_in_their_order_and_a_refusal_holds_nothing_back(state: Store) -> None:
    sender = Sending(lambda d: Result(503 if d.event_id == "0007" else 204))
    loop = dispatcher(state, sender)
    running = asyncio.create_task(loop.run())

    async def settled() -> bool:
        return await states(state) == {"delivered": EVENTS - 1, "retrying": 1}

    await eventually(settled)
    assert sender.sent == [f"{n:04}" for n in range(EVENTS)]
    await loop.drain()
    await running
    assert not loop.busy


async def test_deliveries_are_recorded_while_the_run_continues(state: Store) -> None:
    sender = Sending()
    loop = dispatcher(state, sender)
    running = asyncio.create_task(loop.run())

    async def recorded() -> bool:
        return (await states(state)).get("delivered", 0) == 3

    sender.answer = lambda d: sender.open.clear() or Result(204) if d.event_id == "0002" else Result(204)  # type: ignore[func-returns-value]
    await eventually(recorded)
    assert sender.sent == ["0000", "0001", "0002", "0003"], "the fourth is in flight"
    sender.open.set()
    await loop.drain()
    await running


async def test_shutdown_returns_unsent_deliveries(state: Store) -> None:
    sender = Sending()
    sender.open.clear()
    loop = dispatcher(state, sender)
    running = asyncio.create_task(loop.run())

    async def under_way() -> bool:
        return sender.sent == ["0000"]

    await eventually(under_way)
    draining = asyncio.create_task(loop.drain())

    async def told() -> bool:
        return loop.stopping

    await eventually(told)
    sender.open.set()
    await draining
    await running
    assert await states(state) == {"delivered": 1, "pending": EVENTS - 1} and sender.sent == ["0000"]


@pytest.mark.parametrize("how", ["gone", "deleted", "disabled by another replica"])
async def test_a_disabled_endpoint_gets_only_what_is_in_flight(state: Store, how: str) -> None:
    stopped = asyncio.Event()

    def answer(delivery: Delivery) -> Result:
        if delivery.event_id == "0004":
            stopped.set()
            sender.open.clear()
        return Result(410 if how == "gone" and delivery.event_id == "0004" else 204)

    sender = Sending(answer)
    loop = dispatcher(state, sender)
    running = asyncio.create_task(loop.run())
    await asyncio.wait_for(stopped.wait(), 10)
    if how == "deleted":
        await state.transact(lambda c: [c.exec_driver_sql(f"DELETE FROM {t}") for t in ("delivery", "endpoint")] and None)
    elif how != "gone":
        await state.transact(lambda c: db.disable(c, "e", "by hand"))

    async def heard() -> bool:
        return loop.halted == {"e"}

    await eventually(heard)
    sender.open.set()

    async def free() -> bool:
        return not loop.busy

    await eventually(free)
    assert sender.sent == [f"{n:04}" for n in range(6)], "the sixth was in flight"
    left = await states(state)
    assert left == {} if how == "deleted" else left["suppressed"] == EVENTS - 6 + (how == "gone") and "in_flight" not in left
    await loop.drain()
    await running


async def test_deliveries_that_cannot_start_within_their_lease_are_returned(state: Store) -> None:
    sender = Sending()
    loop = dispatcher(state, sender, timeout_s=delivery_queue.LEASE_S)
    running = asyncio.create_task(loop.run())

    async def settled() -> bool:
        return await states(state) == {"delivered": EVENTS}

    await eventually(settled)
    assert sender.sent == [f"{n:04}" for n in range(EVENTS)], "one per lease, and none twice"
    await loop.drain()
    await running


async def test_the_state_of_one_endpoint_does_not_affect_another(state: Store) -> None:
    loop = dispatcher(state, Sending())
    loop.halted = {"elsewhere", "e"}
    running = asyncio.create_task(loop.run())

    async def settled() -> bool:
        return await states(state) == {"delivered": EVENTS}

    await eventually(settled)
    assert loop.halted == {"elsewhere"}, "it is enabled again; the state of the other endpoint is unchanged"
    await loop.drain()
    await running


async def test_what_the_notifier_disables_is_reported_once_for_the_audit(state: Store) -> None:
    loop = dispatcher(state, Sending(lambda delivery: Result(410)))
    running = asyncio.create_task(loop.run())

    async def held() -> bool:
        return await states(state) == {"suppressed": EVENTS}

    await eventually(held)
    await loop.drain()
    await running
    relay: Any = loop.processor.relay
    [report] = [WebhookChanged.read(r.value) for r in relay.sent if r.topic == WEBHOOK_ANSWERS_TOPIC.name]
    assert (report.verb, report.by, report.endpoint_id, report.tenant_id) == ("disable", "notifier", "e", "t")
    assert "410" in report.reason
