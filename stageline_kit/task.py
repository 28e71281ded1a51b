"""What an action receives: one attempt of a step, a way to report progress, and whether the result is still wanted."""

from __future__ import annotations

import math
import mimetypes
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

from contracts import FileRef, StageTask
from contracts.work import TaskFile
from stageline_kit.outcomes import Failed
from stageline_kit.task_objects import GatewayObjects, TaskObjects


@dataclass
class Task:
    """One attempt of one step. `message` is the task as the orchestrator sent it."""

    message: StageTask
    traceparent: str | None = None
    """W3C trace context of this attempt. Pass it on in the requests that you send."""
    _progress: tuple[int, int | None] | None = None
    _cancelled: bool = False
    _on_progress: Callable[[int, int | None], None] | None = None
    _objects: TaskObjects | None = None
    _outputs: list[dict[str, Any]] = field(default_factory=list)

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
        """The file by claim check; None for a step that runs once per job. `read` has its bytes."""
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

    def read(self, blob_name: str | None = None) -> bytes:
        """The bytes of the task's file, or of the object `blob_name` that the task names. No key is needed.

        It waits for the gateway, so an `async` action calls `await asyncio.to_thread(task.read)`. Raises `Failed` for a task without a file,
        `TryAgain` when the gateway does not give the bytes (the next attempt has a new address), and `Queued` while it does not answer.
        """
        name = blob_name or (self.file.blob_name if self.file is not None else None)
        if name is None:
            raise Failed("no_file", "The task has no file whose bytes are stored.")
        return self._store().read(name)

    def text(self) -> str:
        """The text of the task's file: what an earlier step has extracted, else the file itself as UTF-8, if its type is a text.

        Raises `Failed` for a file of another type without extracted text, and as `read`.
        """
        extracted = next((r["text_blob"] for r in reversed(self.results.values()) if r.get("text_blob")), None)
        if extracted is None and (self.file is None or not _is_text(self.file)):
            raise Failed(
                "no_text", "No step before has extracted the text of this file. Put one of text.extract before this step."
            )
        return self.read(extracted).decode("utf-8", "replace")

    def output(self, file_name: str, data: bytes, content_type: str | None = None, category: str | None = None) -> dict[str, Any]:
        """Store a file that the step has made. It is among `outputs` of the step's result, and belongs to the job.

        Without `content_type`, the name says it. Returns the entry in `outputs`. Waits as `read`. Raises `Failed` where the gateway refuses the
        file, e.g. for its size, and else as `read`.
        """
        kind = content_type or mimetypes.guess_type(file_name)[0] or "application/octet-stream"
        stored = self._store().store(file_name, data, kind, category)
        self._outputs.append(stored)
        return stored

    def _store(self) -> TaskObjects:
        if self._objects is None:
            self._objects = GatewayObjects(self.message.objects_url)
        return self._objects

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


def with_outputs(task: Task, result: Any) -> Any:
    """The result of an action, with the files that it has stored by `Task.output`."""
    if not task._outputs or not isinstance(result, dict | None):
        return result
    found = dict(result or {})
    known = list(found.get("outputs") or ())
    return {**found, "outputs": [*known, *(output for output in task._outputs if output not in known)]}


def _is_text(file: FileRef) -> bool:
    return file.content_type.startswith("text/") or file.content_type.partition(";")[0] in ("application/json", "application/xml")


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
