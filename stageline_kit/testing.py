"""Tests of your actions without a broker: `await run_action(worker, "acme.translate", ...)` returns what would be reported."""

from __future__ import annotations

from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any

from contracts import FileRef, StageReport, StageTask
from stageline_kit.function_threads import FunctionThreads
from stageline_kit.runner import TaskRunner
from stageline_kit.task import Task
from stageline_kit.task_objects import HeldObjects
from stageline_kit.version import CLIENT
from stageline_kit.worker import Worker


async def run_action(
    worker: Worker, action: str, *, file: FileRef | None = None, config: dict[str, Any] | None = None,
    inputs: dict[str, dict[str, Any]] | None = None, attempt: int = 1, timeout_s: float = 60, heartbeat_s: float = 10,
    threads: FunctionThreads | None = None, metadata: Any = None, objects: MutableMapping[str, bytes] | None = None,
) -> list[StageReport]:  # fmt: skip
    """Run one task through the same code as in production. Returns its reports: heartbeats (RUN), last the end.

    `metadata` is that of the job, `inputs` are the results of earlier steps. `objects` is what `task.read` reads (name → bytes), and gets what
    `task.output` stores, by its file name; an action with a process of its own cannot reach it. Raises `pydantic.ValidationError` for what no task can hold.
    """
    reports: list[StageReport] = []
    message = StageTask(
        task_id="task-1", job_id="job-1", tenant_id="tenant-1", file_id=file.file_id if file else None, step="step", action=action,
        attempt=attempt, lease="lease-1", issued_at=datetime.now(UTC), file=file, config=config or {}, inputs=inputs or {},
        timeout_s=timeout_s, heartbeat_s=heartbeat_s, metadata=metadata,
    )  # fmt: skip
    runner = TaskRunner(worker.name, "test", CLIENT, threads=threads)
    try:
        await runner.run_task(
            Task(message, _objects=HeldObjects({} if objects is None else objects)), worker.actions.get(action), reports.append
        )
    finally:
        runner.threads.close()
    return reports
