"""Slots of a worker: shared fairly between tenants, all of them for a tenant alone."""

from __future__ import annotations

import asyncio
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from stageline_kit.turns import TaskTurns
from tests.eventually import eventually


class Tasks:
    """Notes what started."""

    def __init__(self, turns: TaskTurns) -> None:
        self.turns = turns
        self.started: list[str] = []

    async def put(self, *tenants: str) -> None:
        for tenant in tenants:
            await self.turns.enter(tenant, partial(self._start, tenant))

    def _start(self, tenant: str) -> bool:
        self.started.append(tenant)
        return True


async def test_six_sleeping_tasks_do_not_keep_another_tenant_waiting() -> None:
    tasks = Tasks(TaskTurns(2, waiting=100, guests=1))
    await tasks.put(*"aaaaaa")
    assert tasks.started == ["a", "a"], "a tenant alone has all slots"
    await tasks.put("b", "b", "c")
    assert tasks.started == ["a", "a", "b"], "another tenant starts at once"
    tasks.turns.leave("a")
    assert tasks.started[3:] == [], "the guest holds a slot now"
    tasks.turns.leave("b")
    assert tasks.started[3:] == ["b"], "the tenant with nothing running goes first"
    tasks.turns.leave("a")
    assert tasks.started[4:] == ["a"], "of those with nothing running, the one that waits longest"
    tasks.turns.leave("b")
    assert tasks.started[5:] == ["c"]


async def test_without_room_a_task_blocks_until_it_starts() -> None:
    tasks = Tasks(TaskTurns(1))
    await tasks.put("a")
    putting = asyncio.create_task(tasks.put("b"))
    cancelled = asyncio.create_task(TaskTurns(0).enter("x", lambda: True))

    async def entered() -> bool:
        return tasks.turns._size == 1

    await eventually(entered, 5)
    assert not putting.done()
    tasks.turns.leave("a")
    await asyncio.wait_for(putting, 5)
    assert tasks.started == ["a", "b"]
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)


async def test_a_task_that_need_not_run_takes_no_slot() -> None:
    turns = TaskTurns(1)
    for _ in range(3):
        await asyncio.wait_for(turns.enter("a", lambda: False), 5)
    await asyncio.wait_for(turns.wait_for_slot(), 5)


@given(st.lists(st.sampled_from(["a", "b", "c", "end"]), max_size=60), st.integers(1, 4))
def test_slots_are_never_idle_and_never_too_many(events: list[str], slots: int) -> None:
    async def check() -> None:
        tasks = Tasks(TaskTurns(slots, waiting=1000, guests=1))
        for event in events:
            if event != "end":
                await tasks.put(event)
            elif tasks.turns.running:
                tasks.turns.leave(max(tasks.turns.running))
            total = tasks.turns.running.total()
            assert total <= slots + 1 and (total >= slots or tasks.turns._size == 0)

    asyncio.run(check())
