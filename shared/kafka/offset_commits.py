"""Commits offsets explicitly, after their records' effects are published, and several batches' offsets in one request.

A commit costs the broker a write and both sides a request between batches. A crash repeats the records of at most
`COMMIT_EVERY_S` more, which the inbox drops.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from shared.carried_through import told
from shared.telemetry.tracing import Telemetry

log = logging.getLogger(__name__)
COMMIT_SOON_S, COMMIT_EVERY_S = 0.1, 0.5
"""Longest delay of a commit after a quiet period, and shortest time between two commits."""


class OffsetCommits:
    """Offsets of one consumer that may be committed. Call `flush` before a rebalance and before leaving the group.

    `committed` is called after each commit.
    """

    def __init__(
        self, consumer: Callable[[], Any], telemetry: Telemetry, group: str, committed: Callable[[], None] = lambda: None
    ) -> None:
        self.consumer = consumer
        self.telemetry = telemetry
        self.group = group
        self.committed = committed
        self._done: dict[TopicPartition, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._running: asyncio.Task[bool] | None = None
        self._turn = asyncio.Lock()
        self._flushed_at = float("-inf")

    def mark_done(self, offsets: dict[TopicPartition, int]) -> None:
        """Commit these offsets soon: each is the next one to read, and everything below it is done."""
        if not offsets:
            return
        self._done.update(offsets)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            at = max(loop.time() + COMMIT_SOON_S, self._flushed_at + COMMIT_EVERY_S)
            self._timer = loop.call_at(at, self._due)

    def _due(self) -> None:
        self._timer = None
        self._running = asyncio.create_task(self.flush())
        self._running.add_done_callback(told)

    async def flush(self) -> bool:
        """Commit now; False after a failure. One commit runs at a time, so that an earlier offset never follows a later one."""
        async with self._turn:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            done, self._done = self._done, {}
            if done:
                self._flushed_at = asyncio.get_running_loop().time()
                taken = await commit_offsets(self.consumer(), done, self.telemetry, self.group)
                self.committed()
                return taken
            return True


def next_offsets(records: Sequence[ConsumerRecord[Any, Any]]) -> dict[TopicPartition, int]:
    """Partition → the offset after its last record in `records`."""
    last: dict[tuple[str, int], int] = {}
    for r in records:
        place = (r.topic, r.partition)
        last[place] = max(last.get(place, 0), r.offset)
    return {TopicPartition(*place): offset + 1 for place, offset in last.items()}


async def commit_offsets(consumer: Any, offsets: dict[TopicPartition, int], telemetry: Telemetry, group: str) -> bool:
    """Commit the offsets of partitions that are still assigned. Returns False after a failure.

    A failed commit is counted and logged, not raised: its records are redelivered and the inbox drops them.
    """
    if consumer is None:
        return False
    mine = {tp: o for tp, o in offsets.items() if tp in consumer.assignment()}
    if not mine:
        return True
    try:
        with telemetry.batch_span("commit", "settle", next(iter(mine)).topic, [], **{"messaging.consumer.group.name": group}):
            await consumer.commit(mine)
    except (CommitFailedError, IllegalStateError, KafkaError) as error:
        telemetry.count("pipeline.offset_commit.failures", 1, group=group)
        log.warning("offset commit failed", extra={"group": group, "reason": repr(error)})
        return False
    return True


def rewind(consumer: Any, records: Sequence[ConsumerRecord[Any, Any]]) -> set[TopicPartition]:
    """Seek each partition that is still assigned back to its first record of the batch; returns these partitions."""
    if consumer is None:
        return set()
    first: dict[TopicPartition, int] = {}
    for r in records:
        tp = TopicPartition(r.topic, r.partition)
        first[tp] = min(first.get(tp, r.offset), r.offset)
    mine: set[TopicPartition] = first.keys() & consumer.assignment()
    for tp in mine:
        consumer.seek(tp, first[tp])
    return mine
