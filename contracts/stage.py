"""Messages between orchestrator and workers: one attempt of one step (`StageTask`), and the worker's reports (`StageReport`).

Attempts are fenced: the orchestrator accepts a report only if its `attempt` and `lease` are those of the open attempt.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from contracts.loose import Id, Metadata, Text, Timestamp
from contracts.message import Contract, Message
from contracts.status import TaskStatus
from contracts.work import FileRef, TaskFile

WORKER_STOPPED = "worker_stopped"
"""Code of a QUEUED report by which a worker that is stopped hands a task back. It is no poll of the action's own."""
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
    """One attempt of one step, leased to the worker that reads it from `stage.tasks.<action>`."""

    TYPE = "stageline.stage.task.v1"
    VERSION = "1.2"
    task_id: Id
    issued_at: Timestamp
    file: FileRef | None = None
    files: tuple[TaskFile, ...] | None = None
    """All files of the job that have not failed, in the order of submission. Present for a step of the whole job that asks for them."""
    polls: int | None = Field(default=None, ge=1)
    """How often workers have asked for more time (QUEUED) in this attempt. None: never."""
    config: dict[str, Any] = Field(default_factory=dict)
    inputs: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Results of earlier steps, by step name."""
    metadata: Metadata = None
    """Metadata that the producer gave the job. That of a file is in `file`."""
    objects_url: str | None = Field(default=None, max_length=4096)
    """Address of the gateway with which this attempt reads and stores objects without a key; it ends with the attempt. `GET` of
    `/objects/{blob_name}` below it reads, `PUT` of `/outputs/{file_name}` stores. None where the deployment has no key for it."""
    timeout_s: float = Field(default=300, gt=0)
    """Seconds after which the worker must kill the task and report ERR with the code `limit_time`."""
    heartbeat_s: float = Field(default=10, gt=0)
    """Seconds between RUN reports. The first is due when the task has run for this long."""

    @property
    def message_id(self) -> str:
        return self.task_id

    @property
    def time(self) -> datetime:
        return self.issued_at

    @property
    def key(self) -> str:
        # Spreads the files of a job over workers. Tasks need no order; reports are ordered by job.
        return self.file_id or self.job_id


class Progress(Contract):
    """Progress of a task in units of work, e.g. pages: `done` of `total`. None as the total: unknown."""

    done: int = Field(ge=0)
    total: int | None = Field(default=None, ge=0)


class StageReport(_Attempt):
    """A worker's report on a task. OK, KO and SKIP end the step; ERR is retried; QUEUED repeats the task after `retry_in` seconds."""

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
    """The worker's program and version, e.g. `stageline-worker/0.3.0`. Shows an operator which workers run an old version."""

    @property
    def message_id(self) -> str:
        return self.report_id

    @property
    def time(self) -> datetime:
        return self.reported_at


class TaskCancelled(_Attempt):
    """The result of this attempt is no longer wanted. The worker that runs it must kill it."""

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
