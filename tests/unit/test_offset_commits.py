"""Offset commits: prompt after a quiet period, combined under load, immediate on request."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import TopicPartition

from shared.kafka import offset_commits
from shared.kafka.offset_commits import OffsetCommits
from shared.telemetry.tracing import Telemetry

PLACE = TopicPartition("job.events", 0)


class Consumer:
    """A consumer that records its commits."""

    def __init__(self) -> None:
        self.committed: asyncio.Queue[int] = asyncio.Queue()

    def assignment(self) -> set[TopicPartition]:
        return {PLACE}

    async def commit(self, given: dict[TopicPartition, int]) -> None:
        self.committed.put_nowait(given[PLACE])


async def test_the_first_commit_is_prompt_and_later_ones_are_combined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offset_commits, "COMMIT_SOON_S", 0.01)
    monkeypatch.setattr(offset_commits, "COMMIT_EVERY_S", 30.0)
    consumer = Consumer()
    commits = OffsetCommits(lambda: consumer, Telemetry("test", "test"), "group")
    commits.mark_done({PLACE: 5})
    assert await asyncio.wait_for(consumer.committed.get(), 5) == 5
    commits.mark_done({PLACE: 6})
    commits.mark_done({PLACE: 9})
    early = asyncio.create_task(consumer.committed.get())
    done, _ = await asyncio.wait([early], timeout=0.2)
    assert not done, "the last commit was just now"
    await commits.flush()
    assert await asyncio.wait_for(early, 5) == 9, "a rebalance and a shutdown commit at once"
    assert consumer.committed.empty()
