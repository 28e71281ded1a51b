"""What an action gets: the task, a way to say how far it is, and whether anybody still wants the result."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from contracts import FileRef, StageTask


@dataclass
class Task:
    """One attempt of one step. `config` is the workflow's, `inputs` the results of earlier steps by step name."""

    message: StageTask
    _progress: tuple[int, int | None] | None = None
    _cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def job_id(self) -> str:
        """The job."""
        return self.message.job_id

    @property
    def tenant_id(self) -> str:
        """Who owns it."""
        return self.message.tenant_id

    @property
    def file(self) -> FileRef | None:
        """The file by claim check, or None for a step of the whole job. Its bytes: `GET /api/file/download/{file_id}`."""
        return self.message.file

    @property
    def config(self) -> dict[str, Any]:
        """The step's configuration in the workflow."""
        return self.message.config

    @property
    def inputs(self) -> dict[str, dict[str, Any]]:
        """Results of earlier steps."""
        return self.message.inputs

    @property
    def attempt(self) -> int:
        """1 for the first try."""
        return self.message.attempt

    def progress(self, done: int, total: int | None = None) -> None:
        """Say how far it is, in units of yours (pages, rows); goes out with the next heartbeat. From any thread."""
        self._progress = (done, total)

    @property
    def cancelled(self) -> bool:
        """True when nobody wants the result any more. An `async` action is cancelled by itself; a plain one looks here."""
        return self._cancelled.is_set()
