"""What an action receives: one attempt of a step, a way to report progress, and whether the result is still wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from contracts import FileRef, StageTask
from contracts.work import TaskFile


@dataclass
class Task:
    """One attempt of one step. `message` is the task as the orchestrator sent it."""

    message: StageTask
    traceparent: str | None = None
    """W3C trace context of this attempt. Pass it on in the requests that you send."""
    _progress: tuple[int, int | None] | None = None
    _cancelled: bool = False

    @property
    def job_id(self) -> str:
        """Id of the job."""
        return self.message.job_id

    @property
    def tenant_id(self) -> str:
        """Id of the tenant that owns the job."""
        return self.message.tenant_id

    @property
    def action(self) -> str:
        """Name of the action, e.g. `acme.translate`."""
        return self.message.action

    @property
    def step(self) -> str:
        """Name of the step in the workflow."""
        return self.message.step

    @property
    def file(self) -> FileRef | None:
        """The file by claim check; None for a step that runs once per job. Its bytes: `GET /api/file/download/{file_id}`."""
        return self.message.file

    @property
    def files(self) -> tuple[TaskFile, ...]:
        """All files of the job with their outputs, for a step of the whole job that asks for them; else empty."""
        return self.message.files or ()

    @property
    def config(self) -> dict[str, Any]:
        """Configuration of the step in the workflow."""
        return self.message.config

    @property
    def inputs(self) -> dict[str, dict[str, Any]]:
        """Step name → result, for the steps that ran before this one."""
        return self.message.inputs

    @property
    def attempt(self) -> int:
        """Number of the attempt, from 1."""
        return self.message.attempt

    @property
    def polls(self) -> int:
        """How often this attempt has ended with `Queued`."""
        return self.message.polls or 0

    @property
    def timeout_s(self) -> float:
        """Seconds that the attempt may take. A plain function that takes longer should stop by itself."""
        return self.message.timeout_s

    def progress(self, done: int, total: int | None = None) -> None:
        """Remember progress in units of your choice (pages, rows). The next heartbeat carries it. Safe in any thread."""
        self._progress = (done, total)

    @property
    def cancelled(self) -> bool:
        """True when the result is no longer wanted. An `async` action is cancelled; a plain function must look here."""
        return self._cancelled
