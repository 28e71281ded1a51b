"""Runs one task with its action: timeout, heartbeats, outcome. Knows no Kafka: `report` is where the reports go."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from contracts import Progress, StageReport, StageTask, TaskStatus, derived
from contracts.cloudevents import holds_nul
from stageline_kit.outcomes import Failed, Outcome, Queued, Skipped, TryAgain
from stageline_kit.task import Task

log = logging.getLogger(__name__)
Action = Callable[[Task], Any]
Report = Callable[[StageReport], Awaitable[None]]
FIRST_BEAT_S = 1.0
CLIENT = "stageline-kit/0.3.0"
STATUS = {Failed: TaskStatus.KO, TryAgain: TaskStatus.ERR, Skipped: TaskStatus.SKIP, Queued: TaskStatus.QUEUED}


class Runner:
    """`life` tells this life of the worker from earlier ones: their heartbeats are not each other's repeats."""

    def __init__(self, worker: str, life: str, report: Report) -> None:
        self.worker = worker
        self.life = life
        self.report = report

    async def run(self, task: Task, action: Action | None) -> None:
        """Run it to its end and report how it ended. Cancelled when nobody wants the result: then nothing is reported."""
        started = time.monotonic()
        beating = asyncio.create_task(self._beat(task))
        try:
            status, more = await self._outcome(task, action)
        finally:
            beating.cancel()
        try:
            report = self._made(task.message, status, "end", duration_ms=round((time.monotonic() - started) * 1000, 3), **more)
            if holds_nul(report.to_json()):
                raise ValueError("a text holds U+0000")
        except (ValueError, TypeError) as error:
            # The result is no JSON object, or more than a report may hold.
            reason = {"code": "invalid_result", "message": f"{type(error).__name__}: {error}"[:4000]}
            report = self._made(task.message, TaskStatus.ERR, "end", **reason)
        await self.report(report)

    async def _outcome(self, task: Task, action: Action | None) -> tuple[TaskStatus, dict[str, Any]]:
        if action is None:
            return TaskStatus.KO, {"code": "unknown_action", "message": f"This worker has no action {task.message.action!r}."}
        try:
            async with asyncio.timeout(task.message.timeout_s):
                found = await action(task) if inspect.iscoroutinefunction(action) else await asyncio.to_thread(action, task)
            return TaskStatus.OK, {"result": {} if found is None else found}
        except Outcome as outcome:
            more = {"retry_in": outcome.retry_in} if isinstance(outcome, Queued) else {}
            return STATUS[type(outcome)], {"code": outcome.code, "message": str(outcome)[:4000], **more}
        except TimeoutError:
            task._cancelled.set()
            return TaskStatus.ERR, {"code": "limit_time", "message": f"It took longer than {task.message.timeout_s:.0f} s."}
        except Exception as error:
            log.exception("action %s failed", task.message.action)
            return TaskStatus.ERR, {"code": "worker_error", "message": f"{type(error).__name__}: {error}"[:4000]}

    async def _beat(self, task: Task) -> None:
        number = 0
        await asyncio.sleep(min(FIRST_BEAT_S, task.message.heartbeat_s))
        while True:
            number += 1
            known = task._progress
            progress = Progress(done=known[0], total=known[1]) if known else None
            await self.report(self._made(task.message, TaskStatus.RUN, f"beat-{self.life}-{number}", progress=progress))
            await asyncio.sleep(task.message.heartbeat_s)

    def _made(self, task: StageTask, status: TaskStatus, role: str, **more: Any) -> StageReport:
        # The id is derived from the attempt: the same task run twice reports its end under one id.
        return StageReport(
            report_id=derived(task.lease, self.worker, role), job_id=task.job_id, tenant_id=task.tenant_id, file_id=task.file_id,
            step=task.step, action=task.action, attempt=task.attempt, lease=task.lease, reported_at=datetime.now(UTC),
            status=status, worker=self.worker, client=CLIENT, **more,
        )  # fmt: skip
