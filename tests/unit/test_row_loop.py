"""The shape of background loops: several rows at once, tenants in turn, and the failure of a row is its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from services.ingest.adapters.background.object_deletion import in_turns
from shared.database.faults import ConstraintViolated
from shared.errors import Retry, Stop
from shared.runtime.row_loop import EventWake, RowLoop, pause_after
from tests.eventually import eventually


class Table:
    """Rows in memory: `bad` ones fail each time, `slow` ones never end."""

    def __init__(self, rows: Sequence[tuple[str, str]], bad: str = "", slow: str = "") -> None:
        self.rows = {key: SimpleNamespace(id=key, tenant_id=tenant, attempts=0) for key, tenant in rows}
        self.bad, self.slow = bad, slow
        self.done: list[str] = []
        self.put_off: set[str] = set()
        self.most = 0
        self.now = 0
        self.away = 0

    async def due(self) -> Sequence[Any]:
        if self.away:
            self.away -= 1
            raise Retry("store_unavailable", "away")
        return in_turns([row for key, row in self.rows.items() if key not in self.put_off])

    async def work(self, row: Any) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if self.slow and row.tenant_id == self.slow:
                await asyncio.Event().wait()
            if self.bad and row.tenant_id == self.bad:
                raise ValueError("it cannot be done")
            self.done.append(row.id)
            self.rows.pop(row.id)
        finally:
            self.now -= 1

    async def later(self, row: Any) -> None:
        row.attempts += 1
        self.put_off.add(row.id)


@contextlib.asynccontextmanager
async def running(table: Table) -> AsyncIterator[RowLoop]:
    loop = RowLoop("test", table.due, table.work, table.later, EventWake(asyncio.Event()), "id", poll_s=0.05)
    task = asyncio.create_task(loop.run())
    try:
        yield loop
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_two_hundred_rows_that_fail_do_not_starve_the_rest() -> None:
    table = Table([*((f"bad{n}", "a") for n in range(200)), ("good", "b"), ("own", "a2")], bad="a")

    async def done() -> bool:
        return set(table.done) == {"good", "own"}

    async def put_off() -> bool:
        return len(table.put_off) == 200

    async with running(table):
        await eventually(done, 10)
        await eventually(put_off, 10)
    assert all(table.rows[key].attempts == 1 for key in table.put_off), "each waits for a time of its own"


async def test_a_tenants_slow_rows_hold_up_nobody_else() -> None:
    table = Table([*((f"slow{n}", "a") for n in range(50)), *((f"b{n}", "b") for n in range(20))], slow="a")

    async def done() -> bool:
        return len(table.done) == 20

    async with running(table) as loop:
        await eventually(done, 10)
        assert table.now == loop.per_tenant and 4 < table.most <= loop.at_once


async def test_rows_wait_while_the_store_is_away() -> None:
    table = Table([("x", "a")])
    table.away = 1

    async def done() -> bool:
        return table.done == ["x"]

    async with running(table):
        await eventually(done, 10)


def test_pauses_double_up_to_an_hour() -> None:
    assert pause_after(1) < pause_after(4) < pause_after(9) and pause_after(40) == 3600


@pytest.mark.parametrize(
    ("error", "ends"), [(Stop("database_misfit", "no such table"), True), (ConstraintViolated("x", "y"), False)]
)
async def test_what_no_try_can_cure_ends_the_loop_and_a_refused_row_does_not(error: Stop, ends: bool) -> None:
    table = Table([("a", "t"), ("b", "u")])
    work = table.work

    async def failing(row: Any) -> None:
        if row.id == "a":
            raise error
        await work(row)

    table.work = failing  # type: ignore[method-assign]
    loop = RowLoop("test", table.due, table.work, table.later, EventWake(asyncio.Event()), "id", poll_s=0.05)
    running_loop = asyncio.create_task(loop.run())

    async def put_off() -> bool:
        return "a" in table.put_off and table.done == ["b"]

    if ends:
        with pytest.raises(Stop):
            await asyncio.wait_for(running_loop, 5)
    else:
        assert await eventually(put_off, 5)
        running_loop.cancel()
        await asyncio.gather(running_loop, return_exceptions=True)
