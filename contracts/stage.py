"""Between orchestrator and workers: one attempt of one step (`StageTask`), and what the worker says of it (`StageReport`).

Every attempt is fenced: a report counts only if its `attempt` and `lease` are those of the open attempt.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from contracts.loose import Id, Text, Timestamp
from contracts.message import Contract, Message
from contracts.status import TaskStatus
from contracts.work import FileRef, TaskFile

TaskStatusValue = Annotated[TaskStatus, Field(strict=False)]


class _Attempt(Message):
    job_id: Id
    tenant_id: Id
    file_id: str | None = None
    """None for a step that runs once per job."""
    step: str = Field(min_length=1, max_length=100)
    action: str = Field(pattern=r"^[a-z][a-z0-9_]*(\.[a-z0-9_]+)*$", max_length=100)
    attempt: int = Field(ge=1)
    lease: Id

    @property
    def key(self) -> str:
        return self.job_id

    @property
    def tenant(self) -> str:
        return self.tenant_id


class StageTask(_Attempt):
    """One attempt of one step, leased to whichever worker reads it from `stage.tasks.<action>`."""

    TYPE = "stageline.stage.task.v1"
    VERSION = "1.1"
    task_id: Id
    issued_at: Timestamp
    file: FileRef | None = None
    files: tuple[TaskFile, ...] | None = None
    """All files of the job that are still in, in the order they were handed in: for a step of the whole job that asks for them."""
    polls: int | None = Field(default=None, ge=1)
    """How often workers have asked for more time (QUEUED) in this attempt; None if not at all."""
    config: dict[str, Any] = Field(default_factory=dict)
    inputs: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Results of earlier steps, by step name."""
    timeout_s: float = Field(default=300, gt=0)
    """Longest a worker may run it before it must kill it and report ERR `limit_time`."""
    heartbeat_s: float = Field(default=10, gt=0)
    """A RUN report is due this often once the task has run as long as that."""

    @property
    def message_id(self) -> str:
        return self.task_id

    @property
    def time(self) -> datetime:
        return self.issued_at

    @property
    def key(self) -> str:
        # Files of one job spread over workers: tasks carry no order, reports restore it by job.
        return self.file_id or self.job_id


class Progress(Contract):
    """Units done of units known, e.g. pages."""

    done: int = Field(ge=0)
    total: int | None = Field(default=None, ge=0)


class StageReport(_Attempt):
    """A worker's word on a task. OK, KO, SKIP end the step; ERR is retried; QUEUED is re-sent after `retry_in`."""

    TYPE = "stageline.stage.report.v1"
    VERSION = "1.1"
    report_id: Id
    reported_at: Timestamp
    status: TaskStatusValue
    code: str | None = Field(default=None, max_length=100)
    message: Text | None = Field(default=None, max_length=4000)
    retry_in: float | None = Field(default=None, ge=0)
    result: dict[str, Any] = Field(default_factory=dict)
    progress: Progress | None = None
    worker: str | None = Field(default=None, max_length=200)
    duration_ms: float | None = Field(default=None, ge=0)
    client: str | None = Field(default=None, max_length=200)
    """Program and version that reports, e.g. `stageline-worker/0.2.0`: which of the workers still run the old one."""

    @property
    def message_id(self) -> str:
        return self.report_id

    @property
    def time(self) -> datetime:
        return self.reported_at


class TaskCancelled(_Attempt):
    """Tells every worker that this attempt's result is no longer wanted: kill it if you run it."""

    TYPE = "stageline.stage.task_cancelled.v1"
    event_id: Id
    occurred_at: Timestamp
    reason: Text = ""

    @property
    def message_id(self) -> str:
        return self.event_id

    @property
    def time(self) -> datetime:
        return self.occurred_at
