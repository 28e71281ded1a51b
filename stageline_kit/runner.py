"""Runs one task with its action: time limit, heartbeats, outcome. It knows nothing of Kafka."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from contracts import Progress, StageReport, StageTask, TaskStatus, derived
from contracts.cloudevents import holds_nul
from contracts.public_text import public_text
from contracts.stage import WORKER_STOPPED
from stageline_kit.function_threads import FunctionThreads
from stageline_kit.isolation import ActionFault, IsolatedAction
from stageline_kit.outcomes import Failed, Outcome, Queued, Skipped, TryAgain
from stageline_kit.task import Task, with_outputs

log = logging.getLogger(__name__)
Action = Callable[[Task], Any] | IsolatedAction
Report = Callable[[StageReport], None]
FIRST_HEARTBEAT_S = 1.0
MAX_REPORT_BYTES = 917_504
"""896 KiB: the largest record that services read (contracts/PROTOCOL.md)."""
STATUS = {Failed: TaskStatus.KO, TryAgain: TaskStatus.ERR, Skipped: TaskStatus.SKIP, Queued: TaskStatus.QUEUED}


class TaskRunner:
    """Runs tasks of one worker process.

    `life` is unique per process: heartbeats of a restarted worker are not repeats of earlier ones. `client` names the
    program and its version. `grace_s` is added to a task's `timeout_s`, for actions that enforce the limit themselves. Plain
    functions run in `threads`.
    """

    def __init__(
        self, worker: str, life: str, client: str | None = None, grace_s: float = 0.0, threads: FunctionThreads | None = None
    ) -> None:
        self.worker = worker
        self.life = life
        self.client = client
        self.grace_s = grace_s
        self.threads = threads or FunctionThreads()
        self._beats = itertools.count(1)

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
        run = asyncio.current_task()
        assert run is not None
        cancelled_before = run.cancelling()
        limit = asyncio.timeout(None if at_once else task.message.timeout_s + self.grace_s)
        try:
            async with limit:
                result = with_outputs(task, await self._call(action, task))
            return TaskStatus.OK, {} if result is None or result == {} else {"result": result}
        except Outcome as outcome:
            more = {"retry_in": outcome.retry_in} if isinstance(outcome, Queued) else {}
            return _status_of(outcome), {"code": clean(str(outcome.code)), "message": clean(str(outcome))[:4000], **more}
        except BaseException as error:
            cancelled = isinstance(error, asyncio.CancelledError) and run.cancelling() > cancelled_before
            if cancelled or isinstance(error, GeneratorExit):
                raise  # by the worker: the task is cancelled, or the process ends
            if limit.expired():
                task._cancelled = True
                return TaskStatus.ERR, {
                    "code": "limit_time",
                    "message": f"The step took longer than {task.message.timeout_s:.0f} s.",
                }
            # The action's own fault, also where it is a `TimeoutError`, a `CancelledError` or `sys.exit()`.
            log.exception("action failed", extra=log_fields(task))
            return TaskStatus.ERR, {"code": "worker_error", "message": _text_of(error)}

    async def _call(self, action: Action, task: Task) -> Any:
        if isinstance(action, IsolatedAction):
            process = action.start(task)
            try:
                return await self.threads.run_function(process.run, task)
            finally:
                process.kill()
        if inspect.iscoroutinefunction(action):
            return await action(task)
        result = await self.threads.run_function(action, task)
        return await result if inspect.isawaitable(result) else result

    def _end_report(self, task: Task, status: TaskStatus, duration_ms: float, facts: dict[str, Any]) -> StageReport:
        if facts.get("message"):
            facts["message"] = public_text(facts["message"])
        try:
            report = self._make_report(task.message, status, "end", duration_ms=duration_ms, **facts)
            if facts:
                _check_size_and_text(report)
        except ReportTooLarge as error:
            return self.make_too_large(task.message, str(error), duration_ms)
        except (ValueError, TypeError) as error:
            log.warning("result cannot be reported", extra=log_fields(task, reason=str(error)[:1000]))
            reason = {"code": "invalid_result", "message": public_text(clean(f"{type(error).__name__}: {error}")[:4000])}
            report = self._make_report(task.message, TaskStatus.ERR, "end", duration_ms=duration_ms, **reason)
        return report

    def make_too_large(self, task: StageTask, reason: str, duration_ms: float | None = None) -> StageReport:
        """The end of a task whose result does not fit into a record: KO, because another attempt would have the same result."""
        log.warning("result is too large", extra={"job.id": task.job_id, "action": task.action, "reason": reason})
        facts = {"code": "result_too_large", "message": f"{reason} Store it as a file, and name the file in the result."}
        return self._make_report(task, TaskStatus.KO, "end", duration_ms=duration_ms, **facts)

    async def _send_heartbeats(self, task: Task, report: Report) -> None:
        await asyncio.sleep(min(FIRST_HEARTBEAT_S, task.message.heartbeat_s))
        while True:
            report(self.make_beat(task.message, _progress_of(task)))
            await asyncio.sleep(task.message.heartbeat_s)

    def make_beat(self, task: StageTask, progress: Progress | None = None) -> StageReport:
        """A sign of life: the task runs here."""
        return self._make_report(task, TaskStatus.RUN, f"beat-{self.life}-{next(self._beats)}", progress=progress)

    def make_handed_back(self, task: StageTask, message: str) -> StageReport:
        """The task ends here without an outcome. The orchestrator sends the same attempt again."""
        facts = {"code": WORKER_STOPPED, "message": message, "retry_in": 0.0}
        return self._make_report(task, TaskStatus.QUEUED, f"back-{self.life}", **facts)

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


class ReportTooLarge(Exception):
    """The report exceeds the largest record."""


def clean(text: str) -> str:
    """`text` without what no message can hold: U+0000 and lone surrogates become U+FFFD."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\ufffd")


def _text_of(error: BaseException) -> str:
    kind = "" if isinstance(error, ActionFault) else f"{type(error).__name__}: "
    return clean(f"{kind}{str(error)[:500]}")


def _status_of(outcome: Outcome) -> TaskStatus:
    return next((status for kind, status in STATUS.items() if isinstance(outcome, kind)), TaskStatus.ERR)


def _check_size_and_text(report: StageReport) -> None:
    body = report.to_json()
    if holds_nul(body):
        raise ValueError("a text holds U+0000")
    if len(body) > MAX_REPORT_BYTES:
        raise ReportTooLarge(f"The report has {len(body)} bytes; the limit is {MAX_REPORT_BYTES}.")


def _progress_of(task: Task) -> Progress | None:
    return None if task._progress is None else Progress(done=task._progress[0], total=task._progress[1])


def log_fields(task: Task, **facts: Any) -> dict[str, Any]:
    """`extra=` of a log line about a task: job, action, attempt and trace."""
    parts = (task.traceparent or "").split("-")
    trace = {"trace_id": parts[1], "span_id": parts[2]} if len(parts) == 4 else {}
    return {"job.id": task.job_id, "action": task.message.action, "attempt": task.attempt, **trace, **facts}
