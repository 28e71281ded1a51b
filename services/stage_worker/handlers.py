"""Handlers of tasks and cancellations: records from Kafka into the kit's engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from aiokafka import ConsumerRecord, TopicPartition

from contracts import StageTask, Topic
from contracts.stage import TaskCancelled
from contracts.topics import STAGE_CANCELLATIONS_TOPIC, TASK_PREFIX
from shared import clock
from shared.errors import Stop
from shared.processing.fault_window import FaultWindow
from shared.processing.processor import dead_letter
from shared.processing.records import Inbound
from shared.processing.subscription import decode, start_process_spans
from shared.telemetry.tracing import Telemetry
from stageline_kit.engine import TaskEngine
from stageline_kit.hooks import Delivery
from stageline_kit.watermark import Position

log = logging.getLogger(__name__)
SERVICE = "stage_worker"
PARK_LIMIT = 50
"""As `park_limit` of the services with a database."""


class TaskHandlers:
    """Handlers of the worker. `group` is the consumer group of `topics`; `on_fatal` ends the process."""

    def __init__(
        self, engine: TaskEngine, telemetry: Telemetry, topics: Sequence[Topic], group: str, on_fatal: Callable[[Stop], None]
    ) -> None:
        self.engine = engine
        self.telemetry = telemetry
        self.group = group
        self.on_fatal = on_fatal
        self.faults = FaultWindow()
        self.allowed = {t.name: frozenset(m.TYPE for m in t.models) for t in topics}

    async def on_tasks(self, records: Sequence[ConsumerRecord[Any, Any]]) -> None:
        """`stage.tasks.<action>`: one batch, in the order of partition and offset. A fault of our own ends the process."""
        try:
            await self._accept_records(records)
        except Stop as error:
            self.on_fatal(error)
            await asyncio.Event().wait()
        except Exception as error:
            log.exception("batch failed", extra={"group": self.group})
            self.on_fatal(Stop("handler_failed", f"{type(error).__name__}: {error}"))
            await asyncio.Event().wait()

    async def _accept_records(self, records: Sequence[ConsumerRecord[Any, Any]]) -> None:
        self.engine.open_tasks([_position(record) for record in records])
        good, bad = decode(records, self.allowed)
        start_process_spans(self.telemetry, good, self.group)
        read = {_position(item) for item in good} | {_position(fault.record) for fault in bad}
        # The others are sealed, and their jobs are erased.
        if erased := [at for at in map(_position, records) if at not in read]:
            self.engine.reports.close_tasks(erased)
        for fault in bad:
            self._dead_letter(fault.record, fault.code, fault.reason)
        for item in good:
            task = item.message
            assert isinstance(task, StageTask)
            if TASK_PREFIX + task.action != item.topic:
                self._dead_letter(item, "wrong_topic", "action: not the topic's")
                continue
            with item.guard():
                await self.engine.accept_task(Delivery(task, _position(item), item.headers, item))
            if item.dead_letter is not None:
                self.faults.check(1, PARK_LIMIT)
                self.faults.count(1)
                self._dead_letter(item, item.dead_letter.code, str(item.dead_letter))
        self.telemetry.count("messaging.client.consumed.messages", len(records), group=self.group)

    def _dead_letter(self, record: Any, code: str, reason: str) -> None:
        row = dead_letter(record, self.group, SERVICE, code, reason, clock.unix())
        self.engine.reports.put_row(row, [_position(record)])

    async def on_cancellations(self, records: Sequence[ConsumerRecord[Any, Any]]) -> None:
        """`stage.cancellations`: every worker reads all of them, because any worker may hold the task."""
        good, _ = decode(records, {STAGE_CANCELLATIONS_TOPIC.name: frozenset({TaskCancelled.TYPE})})
        for item in good:
            assert isinstance(item.message, TaskCancelled)
            with item.guard():
                self.engine.cancel_lease(item.message.lease)


def _position(record: ConsumerRecord[Any, Any] | Inbound) -> Position:
    return TopicPartition(record.topic, record.partition), record.offset
