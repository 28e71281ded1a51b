"""What an action receives: one attempt of a step, a way to report progress, and whether the result is still wanted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from numbers import Integral, Real
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
    _on_progress: Callable[[int, int | None], None] | None = None

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
        """Configuration of the step in the workflow. A secret in it is a reference, `secret:NAME`: look it up where you keep yours."""
        return self.message.config

    @property
    def metadata(self) -> Any:
        """What the producer gave the job as metadata: an object or a text; None without. That of a file is `task.file.metadata`."""
        return self.message.metadata

    @property
    def results(self) -> dict[str, dict[str, Any]]:
        """Step name → result, for the steps that ran before this one."""
        return self.message.inputs

    @property
    def inputs(self) -> dict[str, dict[str, Any]]:
        """The same as `results`, by its name in the message."""
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

    def progress(self, done: float | Decimal, total: float | Decimal | None = None) -> None:
        """Remember progress. The next heartbeat carries it. Safe in any thread.

        `progress(3, 12)`: 3 of 12 units of your choice (pages, rows). `progress(3)`: 3 units, of how many is unknown.
        `progress(0.25)`: a share between 0.0 and 1.0, reported as 25 of 100. `progress(25, 100)`: percent. Numbers that are not
        whole are reported in hundredths of `total`. Raises `TypeError` for what is no number, and `ValueError` for a number below
        0, for one that is not finite, and for a share above 1.0.
        """
        self._progress = _units(done, total)
        if self._on_progress is not None:
            self._on_progress(*self._progress)

    @property
    def cancelled(self) -> bool:
        """True when the result is no longer wanted. An `async` action is cancelled; a plain function must look here."""
        return self._cancelled


def _units(done: Any, total: Any) -> tuple[int, int | None]:
    for name, value in (("done", done), ("total", total)):
        if value is None and name == "total":
            continue
        if isinstance(value, bool) or not isinstance(value, Real | Decimal):
            raise TypeError(f"progress: {name} is a number, not {value!r}")
        if not math.isfinite(value) or value < 0:
            raise ValueError(f"progress: {name} is 0 or more, not {value!r}")
    whole = isinstance(done, Integral) and isinstance(total, Integral | None)
    if whole:
        return int(done), None if total is None else int(total)
    if total is None and done > 1:
        raise ValueError(f"progress: {done!r} is no share between 0.0 and 1.0; give the total too")
    share = float(done) / float(total or 1)
    return int(min(share, 1.0) * 100 + 1e-9), 100
