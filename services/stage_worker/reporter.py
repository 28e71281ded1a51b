"""Publishes reports in batches and commits, per partition, the offsets below the lowest task that is still open."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from contracts import Message, to_record
from contracts.cloudevents import Headers
from shared import crashpoints
from shared.errors import Retry
from shared.kafka.offset_commits import OffsetCommits
from shared.kafka.outgoing import Outgoing
from shared.processing.outbox import Relay
from shared.telemetry.tracing import Telemetry
from stageline_kit.watermark import Place, Watermark

log = logging.getLogger(__name__)
Mark = Place
"""Partition and offset of a task's delivery."""


@dataclass
class Reporter:
    """`consumer` yields the running task consumer; `group` is its consumer group."""

    relay: Relay
    telemetry: Telemetry
    consumer: Callable[[], Any]
    group: str
    watermark: Watermark = field(default_factory=Watermark)
    queue: list[tuple[Outgoing, Sequence[Mark]]] = field(default_factory=list)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)
    commits: OffsetCommits = field(init=False)

    def __post_init__(self) -> None:
        self.commits = OffsetCommits(self.consumer, self.telemetry, self.group)

    def put(self, topic: str, message: Message, trace: str | None, marks: Sequence[Mark]) -> None:
        """Queue a report; `marks` are closed once Kafka has it."""
        carried = self.telemetry.create_span(message, topic, trace)
        extra: Headers = (("traceparent", carried.encode()),) if carried else ()
        record = to_record(message, "/stageline/stage_worker", extra)
        self.add(Outgoing(topic, record.key, record.value, record.headers), marks)

    def add(self, row: Outgoing, marks: Sequence[Mark]) -> None:
        """Queue a record as it is (dead letters)."""
        self.queue.append((row, marks))
        self.wake.set()

    def done(self, mark: Mark) -> None:
        """Close a delivery that needs no report."""
        self.watermark.closed(mark)
        self.wake.set()

    async def run(self) -> None:
        """Until cancelled: publish what is queued, then commit what is finished."""
        while True:
            await self.wake.wait()
            self.wake.clear()
            try:
                await self._publish()
            except Retry as error:
                log.warning("reports will be sent again", extra={"code": error.code, "reason": str(error)})
                self.wake.set()
                await asyncio.sleep(1)

    async def flush(self) -> None:
        """Publish and commit now, before tasks are given back. Raises `Retry`, and then everything stays queued."""
        await self._publish()
        await self.commits.flush()

    async def _publish(self) -> None:
        async with self.busy:
            batch = self.queue[:1000]
            if batch:
                crashpoints.reach("stage_worker", "before_report")
                await self.relay.send_records([row for row, _ in batch])
                del self.queue[: len(batch)]
                crashpoints.reach("stage_worker", "after_publish")
            for _, marks in batch:
                for mark in marks:
                    self.watermark.closed(mark)
            if self.queue:
                self.wake.set()
            self.commits.mark_done(self.watermark.moved())
