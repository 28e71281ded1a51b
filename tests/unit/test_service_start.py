"""The first transaction of a service waits for a starting cluster, for a limited time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from shared.errors import Retry, Stop
from shared.runtime import service
from shared.runtime.service import Host


class Settling:
    """Returns the `outcomes` in sequence; raises those that are exceptions."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)
        self.now = 0.0

    async def run_unit(self, work: Any) -> Any:
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def pause(self, seconds: float) -> None:
        self.now += seconds

    async def settle(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setattr(service, "asyncio", SimpleNamespace(sleep=self.pause))
        monkeypatch.setattr(service, "time", SimpleNamespace(monotonic=lambda: self.now))
        host = Host.__new__(Host)
        host.processor = self  # type: ignore[assignment]
        return await host.run_startup_unit(lambda unit: None)


async def test_the_start_retries_a_starting_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    settling = Settling(Retry("store_unavailable", "connection is closed"), Retry("kafka_unavailable", "too few in sync"), "done")
    assert await settling.settle(monkeypatch) == "done" and settling.now == 1.0


async def test_retries_end_with_the_last_error(monkeypatch: pytest.MonkeyPatch) -> None:
    settling = Settling(*(Retry("kafka_unavailable", "away") for _ in range(500)))
    with pytest.raises(Retry, match="away"):
        await settling.settle(monkeypatch)
    assert 60 <= settling.now < 62


async def test_a_permanent_error_is_raised_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    settling = Settling(Stop("workflow_changed", "is published and cannot change"), "done")
    with pytest.raises(Stop):
        await settling.settle(monkeypatch)
    assert settling.now == 0
