"""A consumer over logs in memory, with positions, pauses, seeks and rebalances as aiokafka has them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterable
from types import SimpleNamespace
from typing import Any, NamedTuple

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError


class Sent(NamedTuple):
    """What a reader looks at in a record."""

    topic: str
    partition: int
    offset: int
    value: bytes | None


class FakeConsumer:
    """Reads `logs`; a fetch response holds at most `response` records of a partition."""

    def __init__(self, response: int = 500) -> None:
        self.response = response
        self.logs: dict[TopicPartition, list[Sent]] = {}
        self.positions: dict[TopicPartition, int] = {}
        self.stopped: set[TopicPartition] = set()
        self.errors: list[KafkaError] = []
        self.resets = self.polls = 0
        self._fetcher = SimpleNamespace()
        self._coordinator = SimpleNamespace(reset_generation=self._reset)
        self._changed = asyncio.Event()

    def _reset(self) -> None:
        self.resets += 1

    def append(self, partition: TopicPartition, *values: bytes | None) -> None:
        """Records arrive in the partition's log."""
        log = self.logs.setdefault(partition, [])
        log += [Sent(*partition, len(log) + n, value) for n, value in enumerate(values)]
        self._changed.set()

    def assign(self, partitions: Iterable[TopicPartition], committed: int = 0) -> None:
        """A rebalance: these partitions are ours now, unpaused and at their committed offset."""
        self.positions = dict.fromkeys(partitions, committed)
        self.stopped.clear()
        self._changed.set()

    def assignment(self) -> set[TopicPartition]:
        return set(self.positions)

    def pause(self, *partitions: TopicPartition) -> None:
        self.stopped.update(partitions)

    def resume(self, *partitions: TopicPartition) -> None:
        self.stopped.difference_update(partitions)
        self._changed.set()

    def paused(self) -> Collection[TopicPartition]:
        return set(self.stopped)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.positions[partition] = offset
        self._changed.set()

    async def getmany(self, timeout_ms: float = 0) -> dict[TopicPartition, list[Any]]:
        self.polls += 1
        if self.errors:
            raise self.errors.pop(0)
        for wait in (True, False):
            found: dict[TopicPartition, list[Any]] = {}
            for partition in self.positions.keys() - self.stopped:
                start = self.positions[partition]
                if records := self.logs.get(partition, [])[start : start + self.response]:
                    found[partition] = records
                    self.positions[partition] += len(records)
            if found or not wait:
                return found
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), timeout_ms / 1000)
        raise AssertionError
