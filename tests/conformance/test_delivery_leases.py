"""Results of deliveries that are recorded late, or a second time because their events could not be published."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection

from services.notifier.adapters import delivery_queue
from services.notifier.core.delivery import Result
from shared.database.store import Store
from tests.conformance.conftest import Opener
from tests.conformance.test_delivery_queue import due, endpoint, limits, settle

FAILED, DELIVERED = Result(503), Result(204)
NOW = 10.0
LATER = NOW + 100_000.0


@pytest.fixture
async def state(opened: Opener) -> Store:
    """A notifier's store with one endpoint and one delivery."""
    store = await opened("notifier")

    def prepare(connection: Connection) -> None:
        endpoint(connection, "slow", "https://slow.example/hook")
        due(connection, "slow", "a", 1)

    await store.transact(prepare)
    return store


async def test_a_failure_that_is_recorded_twice_does_not_end_the_next_lease(state: Store) -> None:
    def check(connection: Connection) -> None:
        (first,) = delivery_queue.claim(connection, NOW, limits(5), set())
        settle(connection, first[0], FAILED, NOW)
        (second,) = delivery_queue.claim(connection, LATER, limits(5), set())
        assert second[0].event_id == first[0].event_id and second[0].attempt == 2
        settle(connection, first[0], FAILED, NOW)
        assert delivery_queue.claim(connection, LATER, limits(5), set()) == [], "another replica sends it"
        settle(connection, second[0], DELIVERED, LATER)
        assert delivery_queue.claim(connection, 2 * LATER, limits(5), set()) == []

    await state.transact(check)


async def test_a_late_failure_leaves_a_later_lease_and_a_late_success_counts(state: Store) -> None:
    def check(connection: Connection) -> None:
        (first,) = delivery_queue.claim(connection, NOW, limits(5), set())
        late = NOW + delivery_queue.LEASE_S + 1
        (second,) = delivery_queue.claim(connection, late, limits(5), set())
        settle(connection, first[0], FAILED, NOW)
        assert delivery_queue.claim(connection, late, limits(5), set()) == [], "the later lease stays"
        settle(connection, first[0], DELIVERED, late)
        delivery_queue.release(connection, second)
        assert delivery_queue.claim(connection, LATER, limits(5), set()) == [], "what the receiver took is not sent again"

    await state.transact(check)
