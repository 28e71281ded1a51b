"""What stands where it stood the first time is told as a repeat, by both databases."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from sqlalchemy import Connection, text

from shared.database.store import Store, forget_seen
from shared.errors import Retry
from shared.processing.inbox_by_offset import LOOK_BACK, SPAN, Place, forget_taken, mark_taken, sent_before, untake
from tests.conformance.conftest import Opener


def at(*offsets: int, partition: int = 0, id: str = "m") -> list[Place]:
    return [("t", partition, offset, f"{id}{offset}") for offset in offsets]


async def take(store: Store, places: list[Place], now: float = 1.0) -> set[Place]:
    return await store.transact(partial(mark_taken, places=places, at=now))


async def test_a_record_that_comes_again_is_told_whatever_comes_with_it(opened: Opener) -> None:
    store = await opened("session")
    assert not await take(store, at(3, 4, 5) + at(3, partition=1))
    assert await take(store, at(5, 6)) == set(at(5))
    assert await take(store, at(2, 3, 4, 5, 6, 7) + at(3, 4, partition=1)) == set(at(3, 4, 5, 6) + at(3, partition=1))
    assert not await take(store, at(3, 4, 5, partition=2))


async def test_another_message_at_the_same_offset_is_none(opened: Opener) -> None:
    """A topic that was deleted and made anew counts from zero again."""
    store = await opened("session")
    assert not await take(store, at(0, 1, 2))
    anew = at(0, 1, 2, id="other")
    assert not await take(store, anew)
    assert await take(store, anew) == set(anew)


async def test_offsets_far_from_each_other_are_found_from_any_of_them(opened: Opener) -> None:
    store = await opened("session")
    places = at(0, SPAN - 1, SPAN, 5 * SPAN, 5 * SPAN + 1)
    assert not await take(store, places)
    for place in places:
        assert await take(store, [place]) == {place}
    assert await take(store, at(*range(SPAN - 3, SPAN + 3))) == set(at(SPAN - 1, SPAN))


async def test_of_two_replicas_only_one_is_first(opened: Opener) -> None:
    one, other = await opened("session"), await opened("session")
    places = at(*range(200)) + at(*range(200), partition=1)
    # The same records in other batches: a replica that was stopped for a while goes on with what another has taken over.
    batches = [(one, places[:300]), (other, places[100:]), (one, places[250:]), (other, places[:120])]
    repeats = await asyncio.gather(*(take(store, batch) for store, batch in batches))
    first = [p for (_, batch), told in zip(batches, repeats, strict=True) for p in batch if p not in told]
    assert sorted(first) == sorted(places)


async def test_a_failed_transaction_has_taken_nothing(opened: Opener) -> None:
    store = await opened("session")

    def fail(connection: Connection) -> None:
        mark_taken(connection, at(1), 1.0)
        raise Retry("test", "no")

    with pytest.raises(Retry):
        await store.transact(fail)
    assert not await take(store, at(1))


@pytest.mark.parametrize("without", [(3,), (4,), (5,), (4, 5), (3, 4, 5)])
async def test_what_is_taken_out_may_be_taken_again_and_its_neighbours_may_not(opened: Opener, without: tuple[int, ...]) -> None:
    store = await opened("session")
    await take(store, at(3, 4, 5) + at(5, partition=1))
    await store.transact(lambda c: untake(c, at(*without), 1.0))
    assert await take(store, at(3, 4, 5)) == set(at(3, 4, 5)) - set(at(*without))
    assert await take(store, at(3, 4, 5) + at(5, partition=1)) == set(at(3, 4, 5) + at(5, partition=1))


async def test_old_places_are_forgotten_some_at_a_time(opened: Opener) -> None:
    store = await opened("session")
    for n in range(5):
        await take(store, at(n), float(n))
    assert await store.transact(lambda c: forget_taken(c, 3.0, 2)) == 2
    assert await store.transact(lambda c: forget_taken(c, 3.0, 5)) == 1
    assert await store.transact(lambda c: forget_seen(c, 3.0, 5)) == 0
    assert await store.read(lambda c: c.execute(text("SELECT count(*) FROM taken")).scalar()) == 2
    assert await take(store, at(*range(5))) == set(at(3, 4))


async def test_the_same_message_at_an_earlier_place_was_sent_before(opened: Opener) -> None:
    store = await opened("session")
    far = LOOK_BACK + 100
    await take(store, [("t", 0, 7, "a"), ("t", 0, 8, "b"), ("t", 0, 9, "a"), ("t", 0, far, "a"), ("t", 1, 3, "c")])

    async def before(offset: int, id: str) -> bool:
        return await store.read(lambda c: sent_before(c, ("t", 0, offset, id)))

    assert await before(9, "a") and not await before(7, "a"), "only the second is a repeat, also within a batch"
    assert await before(20, "b") and not await before(8, "b")
    assert not await before(20, "c"), "a message of another partition is of another job"
    assert not await before(far, "a") and await before(far + 1, "a"), "nobody looks back for ever"
