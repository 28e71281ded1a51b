"""The half of a worker that every transport shares: slots, leases, cancellations, heartbeats, reports, presence."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from aiokafka import ConsumerRebalanceListener, TopicPartition

from contracts import StageReport, TaskStatus, WorkerSeen
from contracts.topics import STAGE_REPORTS_TOPIC, STAGE_WORKERS_TOPIC
from stageline_kit.hooks import Delivery, WorkerHooks
from stageline_kit.report_queue import ReportQueue
from stageline_kit.runner import Action, TaskRunner
from stageline_kit.task import Task
from stageline_kit.transport import NotSent, Transport
from stageline_kit.watermark import Position

log = logging.getLogger(__name__)
MAX_CANCELLED = 100_000
"""Cancelled leases that are remembered: a cancellation may arrive before its task."""
SEEN_EVERY_S = 10.0


@dataclass(slots=True)
class RunningTask:
    """A task that runs now, and every delivery that its report answers."""

    task: Task
    run: asyncio.Task[None]
    positions: list[Position]


class TaskEngine:
    """Runs the tasks of one worker over a `Transport`. `Worker` uses it over aiokafka; a host may drive it itself:

    call `open_tasks` with the positions of a batch, then `accept_task` for each task; `cancel_lease` for each
    `TaskCancelled`; run `reports.run_publisher` and `announce_often` beside; give the consumer a `PartitionListener`;
    at the end `drain`. `worker` is the name that reports carry. At most `concurrency` tasks run at a time.
    """

    def __init__(
        self, worker: str, actions: Mapping[str, Action], concurrency: int, transport: Transport, hooks: WorkerHooks | None = None,
        *, client: str | None = None, grace_s: float = 0.0,
    ) -> None:  # fmt: skip
        self.worker = worker
        self.actions = actions
        self.concurrency = concurrency
        self.transport = transport
        self.hooks = hooks or WorkerHooks()
        self.client = client
        self.reports = ReportQueue(transport, self.hooks)
        self.running: dict[str, RunningTask] = {}
        """Lease → the task that runs under it."""
        self.cancelled: OrderedDict[str, None] = OrderedDict()
        self.draining = False
        self._slots = asyncio.Semaphore(concurrency)
        self._runner = TaskRunner(worker, uuid.uuid4().hex, client, grace_s)

    async def wait_for_slot(self) -> None:
        """Return when a task could start at once. Poll one record at a time after it, and the rest stays in Kafka."""
        await self._slots.acquire()
        self._slots.release()

    def open_tasks(self, positions: Sequence[Position]) -> None:
        """Note records that were polled. No offset is committed past them before they are closed."""
        for position in positions:
            self.reports.watermark.open_task(position)

    async def accept_task(self, delivery: Delivery) -> None:
        """Take one task whose position is open. Returns when it has started or, without a slot of its own, has ended."""
        if self._needs_no_run(delivery):
            return
        if self.hooks.answers_at_once(delivery.task):
            await self._run_task(delivery, [delivery.position], at_once=True)
            return
        await self._slots.acquire()
        if self._needs_no_run(delivery):
            self._slots.release()
            return
        self._start_task(delivery)

    def _needs_no_run(self, delivery: Delivery) -> bool:
        lease = delivery.task.lease
        if self.draining or not self.reports.watermark.is_open(delivery.position):
            # Not started, not answered, not committed: Kafka delivers it to the partition's next owner.
            return True
        if lease in self.running:
            # Redelivered after a rebalance while it still runs here: one run answers both deliveries.
            self.running[lease].positions.append(delivery.position)
            return True
        if lease in self.cancelled:
            self.reports.close_tasks([delivery.position])
            return True
        return False

    def _start_task(self, delivery: Delivery) -> None:
        positions = [delivery.position]
        task = Task(delivery.task)
        run = asyncio.create_task(self._run_task(delivery, positions, task))
        self.running[delivery.task.lease] = RunningTask(task, run, positions)
        run.add_done_callback(partial(self._task_ended, delivery.task.lease))

    async def _run_task(
        self, delivery: Delivery, positions: list[Position], task: Task | None = None, at_once: bool = False
    ) -> None:
        with self.hooks.task_span(delivery) as traceparent:
            task = task or Task(delivery.task)
            task.traceparent = traceparent

            def report(made: StageReport) -> None:
                self._report(delivery, made, positions, traceparent)

            await self._runner.run_task(task, self.actions.get(delivery.task.action), report, at_once)

    def _report(self, delivery: Delivery, report: StageReport, positions: list[Position], traceparent: str | None) -> None:
        ended = report.status is not TaskStatus.RUN
        if report.lease in self.cancelled:
            if ended:
                self.reports.close_tasks(positions)
            return
        if ended:
            self.hooks.task_finished(delivery, report)
        context = self.hooks.report_context(report, traceparent)
        row = self.transport.encode_record(STAGE_REPORTS_TOPIC.name, report, context)
        self.reports.put_row(row, positions if ended else ())

    def _task_ended(self, lease: str, run: asyncio.Task[None]) -> None:
        # A callback, because a run that is cancelled before its first step never executes a `finally`.
        ended = self.running.pop(lease)
        self._slots.release()
        if run.cancelled():
            # Without a cancellation the process is ending: the task stays open and Kafka delivers it again.
            if lease in self.cancelled:
                self.reports.close_tasks(ended.positions)
        elif run.exception() is not None:
            log.error("a task failed outside its action", exc_info=run.exception())

    def cancel_lease(self, lease: str) -> None:
        """Stop the task that runs under `lease`, or never start it. It is not reported."""
        self.cancelled[lease] = None
        while len(self.cancelled) > MAX_CANCELLED:
            self.cancelled.popitem(last=False)
        running = self.running.get(lease)
        if running is not None:
            running.task._cancelled = True
            running.run.cancel()

    async def release_partitions(self, partitions: Collection[TopicPartition]) -> None:
        """Hand revoked partitions over: publish and commit what is done; the rest is redelivered to the next owner."""
        try:
            await self.reports.flush()
        except NotSent as error:
            log.warning("reports were not sent before a rebalance", extra={"reason": str(error)})
        finally:
            self.reports.watermark.drop_partitions(partitions)
            self.transport.drop_partitions(partitions)

    async def announce_often(self) -> None:
        """Publish `WorkerSeen` every ten seconds, until cancelled: so operators know which actions have a worker."""
        while True:
            await self.announce()
            await asyncio.sleep(SEEN_EVERY_S)

    async def announce(self, leaving: bool = False) -> None:
        """Publish one `WorkerSeen`. A failure is logged; work goes on without it."""
        seen = WorkerSeen(
            worker=self.worker, actions=tuple(sorted(self.actions)), slots=self.concurrency, leaving=leaving, client=self.client,
            seen_at=datetime.now(UTC),
        )  # fmt: skip
        try:
            await self.transport.send_rows([self.transport.encode_record(STAGE_WORKERS_TOPIC.name, seen, None)])
        except NotSent as error:
            log.warning("the presence of this worker was not published", extra={"reason": str(error)})

    async def drain(self) -> None:
        """Start nothing new, wait for what runs, publish and commit. Bound the wait; cancelling it cancels what runs."""
        self.draining = True
        await asyncio.gather(*(running.run for running in self.running.values()), return_exceptions=True)
        await self.reports.publish_all()
        await self.transport.commit_offsets()


class PartitionListener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Rebalance listener for the consumer of an engine's task topics."""

    def __init__(self, engine: TaskEngine) -> None:
        self.engine = engine
        self.joined = False
        """Member of the group with its share of the partitions. Of many members, some may have none."""

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """aiokafka calls this before the group is rebalanced."""
        self.joined = False
        await self.engine.release_partitions(revoked)

    async def on_partitions_assigned(self, assigned: Any) -> None:
        """aiokafka calls this when the rebalance is over."""
        self.joined = True
