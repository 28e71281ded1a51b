"""Tasks and cancellations from Kafka into the pool."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from aiokafka import ConsumerRebalanceListener, ConsumerRecord, TopicPartition

from contracts import StageTask, Topic, all_topics
from contracts.stage import TaskCancelled
from contracts.topics import STAGE_CANCELLATIONS_TOPIC, TASK_PREFIX
from services.stage_worker.pool import Pool
from services.stage_worker.reporter import Reporter
from shared import clock
from shared.errors import Stop
from shared.processing.processor import dead_letter
from shared.processing.subscription import decode, start_process_spans

log = logging.getLogger(__name__)


class Ownership(ConsumerRebalanceListener):  # type: ignore[misc]
    """Partitions taken away: finish what can be finished at once, then leave the rest to their new owner."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self.drop: Callable[[Iterable[TopicPartition]], None] = lambda partitions: None
        """Discards what was fetched of partitions and not handed out."""
        self.joined = False
        """Member of the group with its share of the partitions, which for one of many members may be none."""

    async def on_partitions_revoked(self, revoked: Any) -> None:
        self.joined = False
        await self.reporter.flush()
        self.reporter.watermark.forget(list(revoked))
        self.drop(revoked)

    async def on_partitions_assigned(self, assigned: Any) -> None:
        self.joined = True


class Tasks:
    """Handlers of the worker."""

    def __init__(
        self, pool: Pool, reporter: Reporter, topics: Sequence[Topic], group: str, on_fatal: Callable[[Stop], None]
    ) -> None:
        self.on_fatal = on_fatal
        self.pool = pool
        self.reporter = reporter
        self.group = group
        self.allowed = {t.name: frozenset(m.TYPE for m in t.models) for t in topics}

    async def on_tasks(self, records: Sequence[ConsumerRecord[Any, Any]]) -> None:
        """`stage.tasks.<action>`: one batch, in order of partition and offset. A fault of our own ends the process."""
        try:
            await self._accept(records)
        except Exception as error:
            log.exception("batch failed", extra={"group": self.group})
            self.on_fatal(Stop("handler_failed", f"{type(error).__name__}: {error}"))
            await asyncio.Event().wait()

    async def _accept(self, records: Sequence[ConsumerRecord[Any, Any]]) -> None:
        for r in records:
            self.reporter.watermark.opened((TopicPartition(r.topic, r.partition), r.offset))
        good, bad = decode(records, self.allowed)
        start_process_spans(self.pool.telemetry, good, self.group)
        for fault in bad:
            r = fault.record
            letter = dead_letter(r, self.group, "stage_worker", fault.code, fault.reason, clock.unix())
            self.reporter.add(letter, [(TopicPartition(r.topic, r.partition), r.offset)])
        for item in good:
            mark = (TopicPartition(item.topic, item.partition), item.offset)
            if isinstance(item.message, StageTask) and TASK_PREFIX + item.message.action != item.topic:
                letter = dead_letter(item, self.group, "stage_worker", "wrong_topic", "action: not the topic's", clock.unix())
                self.reporter.add(letter, [mark])
                continue
            await self.pool.accept(item, mark)
        self.pool.telemetry.count("messaging.client.consumed.messages", len(records), group=self.group)

    async def on_cancellations(self, records: Sequence[ConsumerRecord[Any, Any]]) -> None:
        """`stage.cancellations`: every worker reads all of them."""
        good, _ = decode(records, {STAGE_CANCELLATIONS_TOPIC.name: frozenset({TaskCancelled.TYPE})})
        for item in good:
            if isinstance(item.message, TaskCancelled):
                self.pool.cancel(item.message.lease, item.message.reason)


def topics_of(actions: Sequence[str]) -> tuple[Topic, ...]:
    """The task topics of the actions served, and all others that must exist."""
    return tuple(t for t in all_topics(tuple(actions)))
