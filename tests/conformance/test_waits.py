"""Requests that wait are woken by what they wait for; all waits of a process share one look into the store."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any

import pytest
from sqlalchemy import Connection

from services.ingest.adapters import waiting
from services.ingest.adapters.store import read_model as rm
from services.ingest.adapters.waiting import Waits
from shared.database.store import Store
from shared.errors import Retry
from tests.conformance.conftest import Opener
from tests.eventually import eventually


@pytest.fixture
async def store(opened: Opener) -> Store:
    return await opened("ingest")


class Counting(Waits):
    """Counts looks into the store."""

    looks = 0

    async def _look(self, due: Any) -> None:
        self.looks += 1
        await super()._look(due)


def decide(c: Connection, *command_ids: str) -> None:
    rm.save_decisions(c, [(i, {"ok": True, "job_id": i}) for i in command_ids], time.time())


async def test_an_answer_of_this_process_wakes_its_wait_alone(store: Store) -> None:
    waits = Counting(store)
    first, second = waits.wait("k"), waits.wait("k")
    first.on_command("c1")
    second.on_command("c2")
    with first, second:
        waits.arrive([("c1", {"ok": True})], {})
        assert await first.result(5) == {"ok": True}
        assert not second.found.done() and waits.looks == 0
    assert not waits._open and not waits._commands


async def test_two_hundred_waits_share_each_look_and_see_what_another_replica_wrote(opened: Opener) -> None:
    store = await opened("ingest")
    waits = Counting(store)
    asked = [asyncio.create_task(waits.decision(f"c{n}", 20)) for n in range(200)]
    await eventually(lambda: _true(len(waits._open) == 200))
    await store.transact(lambda c: decide(c, *(f"c{n}" for n in range(200))))
    answers = await asyncio.gather(*asked)
    assert [a["job_id"] for a in answers if a] == [f"c{n}" for n in range(200)]
    assert waits.looks < 20, "one look serves all that wait"


async def test_an_answer_from_before_the_wait_is_found(store: Store) -> None:
    await store.transact(lambda c: decide(c, "old"))
    assert await Waits(store).decision("old", 10) == {"ok": True, "job_id": "old"}


async def test_a_job_is_handed_over_once_it_fits(store: Store) -> None:
    waits = Waits(store)
    wait = waits.wait("end")
    wait.on_job("j", lambda record: record if record and record["stage"] == "completed" else None)
    with wait:
        waits.arrive([], {"j": {"stage": "started"}, "other": {"stage": "completed"}})
        assert not wait.found.done()
        waits.arrive([], {"j": {"stage": "completed"}})
        assert await wait.result(5) == {"stage": "completed"}


async def test_a_wait_lasts_while_others_of_its_kind_are_answered(store: Store) -> None:
    """A busy pipeline is not a silent one: 503 comes when nothing of the kind was answered for the timeout."""
    waits = Waits(store)

    async def busy(kind: str) -> None:
        for number in range(8):
            other = waits.wait(kind)
            other.on_command(f"{kind}{number}")
            with other:
                waits.arrive([(f"{kind}{number}", {"ok": True})], {})
            await asyncio.wait({asyncio.get_running_loop().create_future()}, timeout=0.1)

    began = time.monotonic()
    same, different = waits.wait("a"), waits.wait("b")
    same.on_command("x")
    different.on_command("y")
    with same, different:
        answers = await asyncio.gather(same.result(0.3), different.result(0.3), busy("a"))
    assert answers[:2] == [None, None] and time.monotonic() - began >= 0.8
    assert same.found.done() is False


async def test_optional_waits_end_when_the_process_stops(store: Store) -> None:
    waits = Waits(store)
    wait = waits.wait("end")
    wait.on_job("j", lambda record: record)
    with wait:
        asked = asyncio.create_task(wait.result(30, patient=True))
        await eventually(lambda: _true(wait.patient))
        waits.close()
        assert await asyncio.wait_for(asked, 5) is None


async def test_a_store_that_is_away_is_said_to_those_who_wait(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: Any) -> Any:
        raise Retry("store_unavailable", "away")

    waits = Waits(store)
    monkeypatch.setattr(waiting, "TICK_S", 0.01)
    monkeypatch.setattr(store, "read", away)
    with pytest.raises(Retry):
        await waits.decision("c", 10)


async def _true(value: bool) -> bool:
    return value


async def test_the_error_of_a_wait_that_nobody_asked_is_no_line_of_the_log(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context["message"]))
    waits = Waits(store)

    async def away(due: Any) -> None:
        raise Retry("away", "the store is away")

    monkeypatch.setattr(waits, "_look", away)

    async def fail() -> None:
        wait = waits.wait("k", repeated=True)
        with wait:
            await asyncio.wait({wait.found}, timeout=5)
            assert wait.found.done()

    await fail()
    assert waits._looking is not None
    await waits._looking
    gc.collect()
    assert complaints == []
