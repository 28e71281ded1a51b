"""Looks at the store: frequent when they are cheap, rare when they are not, never later than the time limit."""

from __future__ import annotations

import asyncio

import pytest

from shared.runtime import wakeup
from shared.runtime.wakeup import Wakeup


class Clock:
    """`time.monotonic` of the module under test. The test sets the duration of each poll."""

    def __init__(self) -> None:
        self.at = 0.0

    def monotonic(self) -> float:
        return self.at


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(wakeup, "time", made)
    return made


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds waited after a signal."""
    found: list[float] = []
    real = asyncio.sleep

    async def noted(delay: float) -> None:
        found.append(delay)
        await real(0)

    monkeypatch.setattr(asyncio, "sleep", noted)
    return found


@pytest.mark.parametrize(
    ("took_s", "pause_s"),
    [
        pytest.param(0.0001, wakeup.SHORTEST_S, id="next to nothing"),
        pytest.param(0.01, 0.2, id="a twentieth of the time"),
        pytest.param(3.0, wakeup.LONGEST_S, id="half a second at most"),
    ],
)
async def test_an_expensive_look_is_followed_by_a_longer_pause(
    clock: Clock, pauses: list[float], took_s: float, pause_s: float
) -> None:
    made = Wakeup()
    made.begin()
    clock.at += took_s
    made.set()
    await made.wait(30)
    assert pauses == [pytest.approx(pause_s)]


async def test_the_pause_ends_at_the_time_limit(clock: Clock, pauses: list[float]) -> None:
    made = Wakeup()
    made.begin()
    clock.at += 3.0
    made.set()
    await made.wait(0.125)
    assert pauses == [0.125]


async def test_without_a_request_the_time_limit_ends_the_wait(pauses: list[float]) -> None:
    made = Wakeup()
    made.begin()
    await asyncio.wait_for(made.wait(0.01), 5)
    assert pauses == []


async def test_a_request_during_a_look_asks_for_the_next_one(clock: Clock, pauses: list[float]) -> None:
    made = Wakeup()
    made.set()
    made.begin()
    waiting = asyncio.create_task(made.wait(None))
    done, _ = await asyncio.wait([waiting], timeout=0.1)
    assert not done, "the poll covers signals before it"
    made.set()
    await asyncio.wait_for(waiting, 5)
