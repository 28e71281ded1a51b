"""Runs tasks with bounded concurrency and says how they ended; a finished offset is never committed past an open one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from contracts import Progress, StageReport, StageTask, TaskStatus, derived
from contracts.topics import STAGE_REPORTS_TOPIC
from services.stage_worker.adapters.documents.fault import DocumentFault
from services.stage_worker.ports import Action, Answer
from services.stage_worker.reporter import Mark, Reporter
from shared import clock
from shared.objects.object_store import ObjectMissing
from shared.processing.records import Inbound
from shared.telemetry.logs import log_fields
from shared.telemetry.tracing import Telemetry

log = logging.getLogger(__name__)
FIRST_HEARTBEAT_S = 1.0
BARE = {status: Answer(status) for status in TaskStatus}
"""Answers that say no more than how it went."""
INLINE = frozenset({"noop"})
"""Actions that are answered at once, without a task of their own."""


class Pool:
    """One per worker process. `size` tasks run at a time; the rest wait in Kafka."""

    def __init__(self, actions: Mapping[str, Action], reporter: Reporter, telemetry: Telemetry, worker: str, size: int) -> None:
        self.actions = actions
        self.reporter = reporter
        self.telemetry = telemetry
        self.worker = worker
        self.slots = asyncio.Semaphore(size)
        self.running: dict[str, asyncio.Task[None]] = {}
        self.marks: dict[str, list[Mark]] = {}
        self.cancelled: OrderedDict[str, str] = OrderedDict()
        self.closing = False
        self.life = clock.new_root()

    async def accept(self, item: Inbound, mark: Mark) -> None:
        """Take one task; returns when it is done (inline) or has a slot."""
        task = item.message
        assert isinstance(task, StageTask)
        if task.lease in self.running:
            # Delivered again after a rebalance while we still run it: one run answers both deliveries.
            self.marks[task.lease].append(mark)
            return
        if task.lease in self.cancelled:
            self.reporter.done(mark)
            return
        if task.action in INLINE and not task.config:
            await self._run(task, item, [mark])
            return
        await self.slots.acquire()
        if self.closing:
            # Not started, not answered, not committed: the next owner of the partition gets it.
            self.slots.release()
            return
        self.marks[task.lease] = [mark]
        run = asyncio.create_task(self._run(task, item, self.marks[task.lease]))
        self.running[task.lease] = run
        run.add_done_callback(partial(self._ended, task.lease))

    def _ended(self, lease: str, run: asyncio.Task[None]) -> None:
        # A callback, not a `finally`: a run that is cancelled before its first step never enters its own code.
        self.running.pop(lease, None)
        marks = self.marks.pop(lease, [])
        self.slots.release()
        if run.cancelled():
            if lease in self.cancelled:
                for mark in marks:
                    self.reporter.done(mark)
        elif run.exception() is not None:
            log.error("a run failed outside its action", exc_info=run.exception())

    async def _run(self, task: StageTask, item: Inbound, marks: list[Mark]) -> None:
        started = time.monotonic()
        answer = await self._answer(task, item.trace)
        elapsed = time.monotonic() - started
        self.telemetry.record("pipeline.job.stage.duration", elapsed, step=task.step, status=answer.status.value)
        if item.span is not None:
            item.span.end()
        try:
            self._end(task, item, answer, elapsed, marks)
        except (ValueError, TypeError) as error:
            # The action's result is no JSON, or not what a report may hold: said so, instead of leaving the task open.
            log.exception("result cannot be reported", extra=log_fields(item.trace, task.job_id, action=task.action))
            failed = Answer(TaskStatus.ERR, "invalid_result", f"{type(error).__name__}: {error}")
            self._end(task, item, failed, elapsed, marks)

    def _end(self, task: StageTask, item: Inbound, answer: Answer, elapsed_s: float, marks: list[Mark]) -> None:
        report = self._report(task, answer.status, "end", answer, duration_ms=round(elapsed_s * 1000, 3))
        self.reporter.put(STAGE_REPORTS_TOPIC.name, report, item.trace, marks)

    async def _answer(self, task: StageTask, trace: str | None) -> Answer:
        action = self.actions.get(task.action)
        if action is None:
            return Answer(TaskStatus.KO, "unknown_action", f"This worker has no action {task.action!r}.")
        if task.action in INLINE and not task.config:
            return await action(task, lambda done, total: None)
        beat = Heartbeat(lambda n, p: self.reporter.put(STAGE_REPORTS_TOPIC.name, self._beat(task, n, p), trace, []))
        beating = asyncio.create_task(beat.run(task.heartbeat_s))
        try:
            return await self._guarded(action, task, beat.progress, trace)
        finally:
            beating.cancel()

    async def _guarded(
        self, action: Action, task: StageTask, progress: Callable[[int, int | None], None], trace: str | None
    ) -> Answer:
        try:
            async with asyncio.timeout(task.timeout_s + 5):
                return await action(task, progress)
        except DocumentFault as fault:
            return Answer(TaskStatus.ERR if fault.retriable else TaskStatus.KO, fault.code, str(fault))
        except ObjectMissing as error:
            return Answer(TaskStatus.KO, error.code, str(error))
        except TimeoutError:
            return Answer(TaskStatus.ERR, "limit_time", f"The step took longer than {task.timeout_s:.0f} s.")
        except Exception as error:
            log.exception("action failed", extra=log_fields(trace, task.job_id, action=task.action, attempt=task.attempt))
            return Answer(TaskStatus.ERR, "worker_error", f"{type(error).__name__}: {str(error)[:500]}")

    def _beat(self, task: StageTask, number: int, progress: tuple[int, int | None] | None) -> StageReport:
        # A later life of this worker beats anew: its beats must not be taken for repeats of the earlier one's.
        return self._report(task, TaskStatus.RUN, f"beat-{self.life}-{number}", Answer(TaskStatus.RUN),
                            progress=Progress(done=progress[0], total=progress[1]) if progress else None)  # fmt: skip

    def _report(self, task: StageTask, status: TaskStatus, role: str, answer: Answer, **more: Any) -> StageReport:
        # What an action has said is checked; where it said nothing, all of it is our own.
        make = StageReport.trusted if answer == BARE.get(answer.status) else StageReport
        return make(
            report_id=derived(task.lease, self.worker, role), job_id=task.job_id, tenant_id=task.tenant_id,
            file_id=task.file_id, step=task.step, action=task.action, attempt=task.attempt, lease=task.lease,
            reported_at=clock.now(), status=status, code=answer.code and answer.code[:100],
            message=answer.message and answer.message[:4000], result=answer.result, retry_in=answer.retry_in,
            worker=self.worker, **more,
        )  # fmt: skip

    def cancel(self, lease: str, reason: str) -> None:
        """Nobody wants the result of this attempt any more: kill it if it runs here, never start it."""
        self.cancelled[lease] = reason
        while len(self.cancelled) > 100_000:
            self.cancelled.popitem(last=False)
        run = self.running.get(lease)
        if run is not None:
            run.cancel()

    async def drain(self) -> None:
        """Wait for what runs; the caller bounds the wait. What is cut off is delivered again."""
        self.closing = True
        await asyncio.gather(*self.running.values(), return_exceptions=True)
        await self.reporter.flush()


class Heartbeat:
    """Says that a task is alive: first after a second, then at its interval, with the newest progress."""

    def __init__(self, say: Callable[[int, tuple[int, int | None] | None], None]) -> None:
        self.say = say
        self.newest: tuple[int, int | None] | None = None

    def progress(self, done: int, total: int | None) -> None:
        """Remember progress for the next beat."""
        self.newest = (done, total)

    async def run(self, interval_s: float) -> None:
        """Until cancelled."""
        number = 0
        await asyncio.sleep(min(FIRST_HEARTBEAT_S, interval_s))
        while True:
            number += 1
            self.say(number, self.newest)
            await asyncio.sleep(interval_s)


def actions_named(actions: Mapping[str, Action], wanted: Sequence[str]) -> dict[str, Action]:
    """The part of the table that this worker serves; all of it when `wanted` is empty."""
    return {name: action for name, action in actions.items() if not wanted or name in wanted}
