"""The health watch ends a process whose Kafka clients need a new one, and no other."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaError, OutOfOrderSequenceNumber

from shared.errors import Stop
from shared.runtime import health
from shared.runtime.health import LOOK_S, RESTART_S, Health


class World:
    """A clock that moves only while somebody waits, and what a service has: one consumer that may fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.until = 1000.0
        self.consumer: Any = SimpleNamespace(failing_since=None, failed_with=None)
        self.health = Health(started=True)
        monkeypatch.setattr(health, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(health, "asyncio", SimpleNamespace(sleep=self.wait))

    async def wait(self, seconds: float) -> None:
        """Time goes by."""
        if self.now >= self.until:
            raise asyncio.CancelledError
        self.now += seconds

    async def run(self, seconds: float) -> list[Stop]:
        """What the watch says in so many seconds from now."""
        self.until = self.now + seconds
        said: list[Stop] = []
        with contextlib.suppress(asyncio.CancelledError):
            await self.health.watch(lambda: [self.consumer], said.append)
        return said


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


async def test_a_reader_with_nothing_but_errors_ends_its_process(world: World) -> None:
    world.consumer.failing_since, world.consumer.failed_with = world.now, KafkaError("fenced")
    assert not await world.run(RESTART_S), "not before its time"
    [stop] = await world.run(RESTART_S)
    assert stop.code == "consumer_failing" and "fenced" in str(stop)


async def test_a_broken_producer_ends_its_process_at_once(world: World) -> None:
    world.consumer = SimpleNamespace(broken=OutOfOrderSequenceNumber())
    [stop] = await world.run(RESTART_S)
    assert (
        stop.code == "producer_broken"
        and "OutOfOrderSequenceNumber" in str(stop)
        and world.now <= world.until - RESTART_S + LOOK_S
    )


async def test_a_reader_without_errors_goes_on(world: World) -> None:
    assert not await world.run(10 * RESTART_S)


async def test_a_stopping_process_is_not_ended(world: World) -> None:
    world.consumer.failing_since, world.health.stopping = world.now, True
    assert not await world.run(10 * RESTART_S)
