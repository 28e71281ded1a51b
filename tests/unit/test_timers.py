"""Timers follow the system's clock, also when it jumps."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared.processing.processor import BatchProcessor
from shared.runtime import timers
from shared.runtime.timers import TimerLoop
from tests.eventually import eventually

START = 1_800_000_000.0


class OneTimer:
    """A timer, and the clock that the loop reads."""

    def __init__(self) -> None:
        self.at, self.due = START, START + 3600
        self.looked = 0
        self.fired: list[float] = []

    def unix(self) -> float:
        return self.at

    def next_due(self, connection: Any) -> float | None:
        self.looked += 1
        return None if self.fired else self.due

    def fire(self, unit: Any, limit: int) -> int:
        self.fired.append(self.at)
        return 1

    async def looks(self, more: int) -> None:
        """Return when the loop has looked so many times more."""
        until = self.looked + more

        async def enough() -> bool:
            return self.looked >= until

        await eventually(enough, 10)


@pytest.mark.parametrize("back_s", [0.0, 86_400.0])
async def test_a_timer_is_due_by_the_clock_that_holds_now(
    processor: BatchProcessor, monkeypatch: pytest.MonkeyPatch, back_s: float
) -> None:
    timer = OneTimer()
    monkeypatch.setattr(timers, "clock", timer)
    loop = TimerLoop(processor, timer.next_due, timer.fire)
    loop.sweep_s = 0.01
    running = asyncio.create_task(loop.run())
    await timer.looks(3)
    timer.at -= back_s
    await timer.looks(3)
    assert timer.fired == [], "not due, neither before nor after a jump back"
    timer.at = timer.due + 1
    await timer.looks(5)
    running.cancel()
    assert timer.fired == [timer.due + 1]
