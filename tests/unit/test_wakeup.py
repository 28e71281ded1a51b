"""Looks at the store: soon where they are cheap, seldom where they are not, never past a known time."""

from __future__ import annotations

import asyncio

import pytest

from shared.runtime import wakeup
from shared.runtime.wakeup import Wakeup


class Clock:
    """`time.monotonic` of the module under test: the look takes as long as the test says."""

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
    """What was waited for after somebody had asked."""
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
async def test_a_look_comes_the_later_the_more_it_costs(clock: Clock, pauses: list[float], took_s: float, pause_s: float) -> None:
    made = Wakeup()
    made.begin()
    clock.at += took_s
    made.set()
    await made.wait(30)
    assert pauses == [pytest.approx(pause_s)]


async def test_a_time_that_is_known_is_never_slept_past(clock: Clock, pauses: list[float]) -> None:
    made = Wakeup()
    made.begin()
    clock.at += 3.0
    made.set()
    await made.wait(0.125)
    assert pauses == [0.125]


async def test_without_being_asked_it_waits_for_its_time_alone(pauses: list[float]) -> None:
    made = Wakeup()
    made.begin()
    await asyncio.wait_for(made.wait(0.01), 5)
    assert pauses == []


async def test_what_is_asked_for_during_a_look_asks_for_the_next_one(clock: Clock, pauses: list[float]) -> None:
    made = Wakeup()
    made.set()
    made.begin()
    waiting = asyncio.create_task(made.wait(None))
    done, _ = await asyncio.wait([waiting], timeout=0.1)
    assert not done, "what was asked for before the look is seen by it"
    made.set()
    await asyncio.wait_for(waiting, 5)
