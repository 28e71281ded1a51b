"""Runs one task with its action: time limit, heartbeats, outcome. It knows nothing of Kafka."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from contracts import Progress, StageReport, StageTask, TaskStatus, derived
from contracts.cloudevents import holds_nul
from stageline_kit.outcomes import Failed, Outcome, Queued, Skipped, TryAgain
from stageline_kit.task import Task

log = logging.getLogger(__name__)
Action = Callable[[Task], Any]
Report = Callable[[StageReport], None]
FIRST_HEARTBEAT_S = 1.0
MAX_REPORT_BYTES = 917_504
"""896 KiB: the largest record that services read (contracts/PROTOCOL.md)."""
STATUS = {Failed: TaskStatus.KO, TryAgain: TaskStatus.ERR, Skipped: TaskStatus.SKIP, Queued: TaskStatus.QUEUED}


class TaskRunner:
    """Runs tasks of one worker process.

    `life` is unique per process: heartbeats of a restarted worker are not repeats of earlier ones. `client` names the
    program and its version. `grace_s` is added to a task's `timeout_s`, for actions that enforce the limit themselves.
    """

    def __init__(self, worker: str, life: str, client: str | None = None, grace_s: float = 0.0) -> None:
        self.worker = worker
        self.life = life
        self.client = client
        self.grace_s = grace_s

    async def run_task(self, task: Task, action: Action | None, report: Report, at_once: bool = False) -> None:
        """Run `action` to its end. `report` receives heartbeats (RUN), then the end. A cancelled task reports no end.

        `at_once`: the action returns without waiting, so it needs neither heartbeats nor a time limit.
        """
        started = time.monotonic()
        beating = asyncio.create_task(self._send_heartbeats(task, report)) if not at_once else None
        try:
            status, facts = await self._outcome_of(task, action, at_once)
        finally:
            if beating is not None:
                beating.cancel()
        report(self._end_report(task, status, round((time.monotonic() - started) * 1000, 3), facts))

    async def _outcome_of(self, task: Task, action: Action | None, at_once: bool) -> tuple[TaskStatus, dict[str, Any]]:
        if action is None:
            return TaskStatus.KO, {"code": "unknown_action", "message": f"This worker has no action {task.message.action!r}."}
        try:
            if at_once:
                result = await _call(action, task)
            else:
                async with asyncio.timeout(task.message.timeout_s + self.grace_s):
                    result = await _call(action, task)
            return TaskStatus.OK, {} if result is None or result == {} else {"result": result}
        except Outcome as outcome:
            more = {"retry_in": outcome.retry_in} if isinstance(outcome, Queued) else {}
            return _status_of(outcome), {"code": outcome.code, "message": str(outcome)[:4000], **more}
        except TimeoutError:
            task._cancelled = True
            return TaskStatus.ERR, {
                "code": "limit_time",
                "message": f"The step took longer than {task.message.timeout_s:.0f} s.",
            }
        except Exception as error:
            log.exception("action failed", extra=log_fields(task))
            return TaskStatus.ERR, {"code": "worker_error", "message": f"{type(error).__name__}: {str(error)[:500]}"}

    def _end_report(self, task: Task, status: TaskStatus, duration_ms: float, facts: dict[str, Any]) -> StageReport:
        try:
            report = self._make_report(task.message, status, "end", duration_ms=duration_ms, **facts)
            if facts:
                _check_size_and_text(report)
        except (ValueError, TypeError) as error:
            log.warning("result cannot be reported", extra=log_fields(task, reason=str(error)[:1000]))
            reason = {"code": "invalid_result", "message": f"{type(error).__name__}: {error}"[:4000].replace("\0", "")}
            report = self._make_report(task.message, TaskStatus.ERR, "end", duration_ms=duration_ms, **reason)
        return report

    async def _send_heartbeats(self, task: Task, report: Report) -> None:
        number = 0
        await asyncio.sleep(min(FIRST_HEARTBEAT_S, task.message.heartbeat_s))
        while True:
            number += 1
            report(self._make_report(task.message, TaskStatus.RUN, f"beat-{self.life}-{number}", progress=_progress_of(task)))
            await asyncio.sleep(task.message.heartbeat_s)

    def _make_report(self, task: StageTask, status: TaskStatus, role: str, **facts: Any) -> StageReport:
        # The id is derived from the attempt, so a task that runs twice reports its end under one id.
        # Only what an action gave needs a check.
        make = StageReport if facts.keys() & {"code", "message", "result", "retry_in"} else StageReport.trusted
        facts.setdefault("result", {})
        return make(
            report_id=derived(task.lease, self.worker, role), job_id=task.job_id, tenant_id=task.tenant_id, file_id=task.file_id,
            step=task.step, action=task.action, attempt=task.attempt, lease=task.lease, reported_at=datetime.now(UTC),
            status=status, worker=self.worker, client=self.client, **facts,
        )  # fmt: skip


async def _call(action: Action, task: Task) -> Any:
    return await action(task) if inspect.iscoroutinefunction(action) else await asyncio.to_thread(action, task)


def _status_of(outcome: Outcome) -> TaskStatus:
    return next((status for kind, status in STATUS.items() if isinstance(outcome, kind)), TaskStatus.ERR)


def _check_size_and_text(report: StageReport) -> None:
    body = report.to_json()
    if holds_nul(body):
        raise ValueError("a text holds U+0000")
    if len(body) > MAX_REPORT_BYTES:
        raise ValueError(f"the report has {len(body)} bytes; the limit is {MAX_REPORT_BYTES}")


def _progress_of(task: Task) -> Progress | None:
    if task._progress is None:
        return None
    try:
        return Progress(done=task._progress[0], total=task._progress[1])
    except ValidationError:
        # A heartbeat keeps the lease; a wrong count must not end it.
        return None


def log_fields(task: Task, **facts: Any) -> dict[str, Any]:
    """`extra=` of a log line about a task: job, action, attempt and trace."""
    parts = (task.traceparent or "").split("-")
    trace = {"trace_id": parts[1], "span_id": parts[2]} if len(parts) == 4 else {}
    return {"job.id": task.job_id, "action": task.message.action, "attempt": task.attempt, **trace, **facts}
