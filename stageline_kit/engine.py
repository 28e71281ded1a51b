"""The half of a worker that every transport shares: slots, leases, cancellations, heartbeats, reports, presence."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from aiokafka import TopicPartition

from contracts import StageReport, TaskStatus, WorkerSeen
from contracts.topics import STAGE_REPORTS_TOPIC, STAGE_WORKERS_TOPIC
from stageline_kit.function_threads import FunctionThreads
from stageline_kit.hooks import Delivery, WorkerHooks
from stageline_kit.presence import held_tasks
from stageline_kit.report_queue import ReportQueue
from stageline_kit.runner import Action, Report, TaskRunner
from stageline_kit.task import Task
from stageline_kit.transport import NotSent, Transport
from stageline_kit.turns import TaskTurns
from stageline_kit.watermark import Position

log = logging.getLogger(__name__)
MAX_CANCELLED = 100_000
"""Cancelled leases that are remembered: a cancellation may arrive before its task."""
SEEN_EVERY_S = 10.0


RELEASE_S = 10.0
"""Seconds that reports and offsets may take before partitions go to other members."""
CUT_OFF = "The worker was stopped before the step was done."


@dataclass(slots=True)
class RunningTask:
    """A task that runs now, and every delivery that its report answers."""

    task: Task
    run: asyncio.Task[None]
    positions: list[Position]
    report: Report
    claimed: bool = False
    """The orchestrator has a report of it, or will have: the lease watches over the task, and its offset may be committed."""
    exposed: bool = False
    """Its partition was revoked before its offset was committed. If another member has the partition, it has the task too."""
    fenced: bool = False
    """Stopped, because another member has the task. It reports nothing any more."""
    since: datetime = field(default_factory=lambda: datetime.now(UTC))


class TaskEngine:
    """Runs the tasks of one worker over a `Transport`. `Worker` uses it over aiokafka; a host may drive it itself:

    call `open_tasks` with the positions of a batch, then `accept_task` for each task; `cancel_lease` for each
    `TaskCancelled`; run `reports.run_publisher` and `announce_often` beside; give the consumer a `PartitionListener`;
    at the end `drain`. `worker` is the name that reports carry. At most `concurrency` tasks run at a time, and `guests` more as
    `TaskTurns` says; up to `waiting` tasks are held here, and the tenant with the fewest running tasks goes first.
    """

    def __init__(
        self, worker: str, actions: Mapping[str, Action], concurrency: int, transport: Transport, hooks: WorkerHooks | None = None,
        *, client: str | None = None, grace_s: float = 0.0, waiting: int = 0, guests: int = 0,
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
        self.cut_off = False
        """True when the time to drain was over before all tasks had ended."""
        self._ends: dict[TopicPartition, int] = {}
        """Partition → its end when it was assigned. Tasks below may have run before, in a process that died of them."""
        self._turns = TaskTurns(concurrency, waiting, guests)
        self.threads = FunctionThreads(self._function_hung)
        self.stuck = asyncio.Event()
        """Set when as many plain functions hang as tasks may run: only a new process gets rid of them."""
        self._runner = TaskRunner(worker, uuid.uuid4().hex, client, grace_s, self.threads)

    def _function_hung(self, task: Task) -> None:
        self.hooks.function_hung(task)
        if self.threads.hung >= self.concurrency:
            self.stuck.set()

    @property
    def is_full(self) -> bool:
        """True while every slot has a task."""
        return self._turns.is_full

    async def wait_for_slot(self) -> None:
        """Return when a task could start at once. Poll one record at a time after it, and the rest stays in Kafka."""
        await self._turns.wait_for_slot()

    def open_tasks(self, positions: Sequence[Position]) -> None:
        """Note records that were polled. No offset is committed past them before they are closed."""
        for position in positions:
            self.reports.watermark.open_task(position)

    async def accept_task(self, delivery: Delivery) -> None:
        """Take one task whose position is open. Returns when it has started, when it waits here for its turn or, without a slot of its own,
        when it has ended."""
        if self._needs_no_run(delivery):
            return
        if self.hooks.answers_at_once(delivery.task):
            task, positions = Task(delivery.task), [delivery.position]
            report = partial(self._report, delivery, positions=positions, task=task)
            await self._run_task(delivery, positions, task, report, at_once=True)
            return
        await self._turns.enter(delivery.task.tenant_id, partial(self._start_in_turn, delivery))

    def _start_in_turn(self, delivery: Delivery) -> bool:
        if self._needs_no_run(delivery):
            return False
        self._start_task(delivery)
        return True

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
        report = partial(self._report, delivery, positions=positions, task=task)
        run = asyncio.create_task(self._run_task(delivery, positions, task, report))
        self.running[delivery.task.lease] = RunningTask(task, run, positions, report)
        run.add_done_callback(partial(self._task_ended, delivery.task.lease))

    async def _run_task(
        self, delivery: Delivery, positions: list[Position], task: Task, report: Report, at_once: bool = False
    ) -> None:
        with self.hooks.task_span(delivery) as traceparent:
            task.traceparent = traceparent
            if not at_once and self._may_have_run(delivery.position):
                await self._claim_first(delivery, task, positions)
            await self._runner.run_task(task, self.actions.get(delivery.task.action), report, at_once)

    def _may_have_run(self, position: Position) -> bool:
        return position[1] < self._ends.get(position[0], position[1] + 1)

    async def _claim_first(self, delivery: Delivery, task: Task, positions: list[Position]) -> None:
        """Report and commit a task before it starts. If it ends this process, its lease runs out: that counts as an attempt, and no
        other worker receives the same attempt."""
        self.running[delivery.task.lease].claimed = True
        row = self._row_of(self._runner.make_beat(delivery.task), task)
        await self.reports.send_row(row, positions)
        await self.transport.commit_offsets()

    def _row_of(self, report: StageReport, task: Task) -> Any:
        context = self.hooks.report_context(report, task.traceparent)
        return self.transport.encode_record(STAGE_REPORTS_TOPIC.name, report, context)

    def _report(self, delivery: Delivery, report: StageReport, positions: list[Position], task: Task) -> None:
        ended = report.status is not TaskStatus.RUN
        running = self.running.get(report.lease)
        if running is not None and running.fenced:
            return
        if report.lease in self.cancelled:
            if ended:
                self.reports.close_tasks(positions)
            return
        if ended:
            self.hooks.task_finished(delivery, report)
        if running is not None:
            running.claimed = True
        self.reports.put_row(self._row_of(report, task), positions, partial(self._too_large, report, task) if ended else None)

    def _too_large(self, report: StageReport, task: Task, reason: str) -> Any:
        return self._row_of(
            self._runner.make_too_large(task.message, f"Kafka refuses the report: {reason}.", report.duration_ms), task
        )

    def _task_ended(self, lease: str, run: asyncio.Task[None]) -> None:
        # A callback, because a run that is cancelled before its first step never executes a `finally`.
        ended = self.running.pop(lease)
        self._turns.leave(ended.task.tenant_id)
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
        """Hand revoked partitions over: publish and commit what is done, and what runs. The rest is redelivered to the next owner.

        What runs goes on here under its lease. A running task that cannot be committed is stopped once another member has it.
        """
        held = [r for r in self.running.values() if any(place in partitions for place, _ in r.positions)]
        for running in held:
            if not running.claimed:
                running.report(self._runner.make_beat(running.task.message))
        committed = False
        try:
            async with asyncio.timeout(RELEASE_S):
                committed = await self.reports.flush()
        except (NotSent, TimeoutError) as error:
            log.warning("reports were not sent before a rebalance", extra={"reason": str(error)})
        finally:
            for running in held:
                running.exposed = not (committed and all(map(self.reports.watermark.is_behind, running.positions)))
            for partition in partitions:
                self._ends.pop(partition, None)
            self.reports.watermark.drop_partitions(partitions)
            self.transport.drop_partitions(partitions)

    async def receive_partitions(self, partitions: Collection[TopicPartition]) -> None:
        """Take over assigned partitions, and stop running tasks that another member has received meanwhile."""
        for running in list(self.running.values()):
            elsewhere = any(place not in partitions for place, _ in running.positions)
            if running.exposed and elsewhere:
                log.warning("a task is stopped: another worker has its partition", extra={"job.id": running.task.job_id})
                running.fenced = running.task._cancelled = True
                running.run.cancel()
            running.exposed = False
        self._ends |= await self.transport.end_offsets(partitions)

    async def announce_often(self) -> None:
        """Publish `WorkerSeen` every ten seconds, until cancelled: so operators know which actions have a worker."""
        while True:
            await self.announce()
            await asyncio.sleep(SEEN_EVERY_S)

    async def announce(self, leaving: bool = False) -> None:
        """Publish one `WorkerSeen`. A failure is logged; work goes on without it."""
        seen = WorkerSeen(
            worker=self.worker, actions=tuple(sorted(self.actions)), slots=self.concurrency, leaving=leaving, client=self.client,
            seen_at=datetime.now(UTC), holds=held_tasks((r.task.message, r.since) for r in self.running.values()),
        )  # fmt: skip
        try:
            await self.transport.send_rows([self.transport.encode_record(STAGE_WORKERS_TOPIC.name, seen, None)])
        except NotSent as error:
            log.warning("the presence of this worker was not published", extra={"reason": str(error)})

    async def drain(self, limit_s: float | None = None) -> None:
        """Start nothing new, wait for what runs, publish and commit. Bound the wait; cancelling it cancels what runs.

        What still runs after `limit_s` is cancelled and handed back: it starts again elsewhere, and uses no attempt.
        """
        self.draining = True
        runs = [running.run for running in self.running.values()]
        if runs:
            try:
                await asyncio.wait(runs, timeout=limit_s)
            finally:
                self._cut_off()
            await asyncio.gather(*runs, return_exceptions=True)
        await self.reports.publish_all()
        await self.transport.commit_offsets()

    def _cut_off(self) -> None:
        for running in self.running.values():
            if running.run.done():
                continue
            self.cut_off = True
            log.warning("a task is cut off", extra={"job.id": running.task.job_id, "action": running.task.action})
            running.run.cancel()
            # One that nobody has heard of is not committed either, so Kafka delivers it again.
            if running.claimed and running.task.message.lease not in self.cancelled:
                running.report(self._runner.make_handed_back(running.task.message, CUT_OFF))
            running.fenced = running.task._cancelled = True
