"""Workflows as data: immutable once published; a job is pinned to `name@version`."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from contracts.status import FileStatus, JobStage
from services.job_orchestrator.core.condition import program


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RetryPolicy(_Part):
    """What ERR leads to. `max_attempts` counts the first try; codes in `fatal` are never retried. Times in seconds."""

    max_attempts: int = Field(default=3, ge=1, le=100)
    backoff: Literal["fixed", "linear", "exponential"] = "exponential"
    initial_s: float = Field(default=1.0, ge=0, le=86_400)
    cap_s: float = Field(default=300.0, ge=0, le=604_800)
    jitter: float = Field(default=0.2, ge=0, le=1)
    fatal: tuple[str, ...] = ()


class Timeouts(_Part):
    """Seconds: waiting for a worker, running on one, and between its signs of life."""

    queued_s: float = Field(default=900.0, gt=0)
    running_s: float = Field(default=300.0, gt=0)
    heartbeat_s: float = Field(default=10.0, gt=0)


class Step(_Part):
    """One entry of a workflow."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")
    action: str = Field(pattern=r"^[a-z][a-z0-9_]*(\.[a-z0-9_]+)*$", max_length=100)
    scope: Literal["file", "job"] = "file"
    stage: JobStage = JobStage.IN_PROGRESS
    """The job's stage from the moment its first file enters this step."""
    file_status: FileStatus | None = None
    validates: bool = False
    """A KO here means that the input is at fault: the file ends `invalid`, not `failed`."""
    config: dict[str, Any] = Field(default_factory=dict)
    when: str | None = None
    """CEL: the step is left out where this is false. Knows `file`, `tag`, `score`, `metadata`, `results` and `job`."""
    retry: RetryPolicy = RetryPolicy()
    timeouts: Timeouts = Timeouts()

    @model_validator(mode="after")
    def _stage_is_passing(self) -> Self:
        if self.stage.terminal or not self.stage.known:
            raise ValueError(f"stage {self.stage.value!r} is not one that a step can set")
        return self

    @field_validator("when")
    @classmethod
    def _when_compiles(cls, value: str | None) -> str | None:
        if value is not None:
            program(value)
        return value


class Workflow(_Part):
    """Steps run in order. Files pass consecutive `file` steps each at its own pace; a `job` step waits for them all.

    `join: best_effort` drops files that fail and lists their faults; `join: all` fails the job with the first of them.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_.-]{0,98}$")
    version: int = Field(ge=1)
    description: str = ""
    join: Literal["best_effort", "all"] = "best_effort"
    steps: tuple[Step, ...] = Field(min_length=1, max_length=100)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [step.name for step in self.steps]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"step names must be unique: {', '.join(repeated)}")
        return self

    @property
    def ref(self) -> str:
        """`name@version`: what jobs are pinned to and events say."""
        return f"{self.name}@{self.version}"

    @property
    def needs_files(self) -> bool:
        """True when at least one step runs per file."""
        return any(step.scope == "file" for step in self.steps)

    def last_file_step(self) -> int:
        """Index of the last step that runs per file, or -1."""
        return max((i for i, step in enumerate(self.steps) if step.scope == "file"), default=-1)
