"""Workflows as data. A published version never changes, and a job is pinned to `name@version`."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from contracts.status import FileStatus, JobStage
from services.job_orchestrator.core.condition import program


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RetryPolicy(_Part):
    """What follows an ERR. `max_attempts` counts the first attempt; codes in `fatal` are never retried. Times in seconds."""

    max_attempts: int = Field(default=3, ge=1, le=100)
    backoff: Literal["fixed", "linear", "exponential"] = "exponential"
    initial_s: float = Field(default=1.0, ge=0, le=86_400)
    cap_s: float = Field(default=300.0, ge=0, le=604_800)
    jitter: float = Field(default=0.2, ge=0, le=1)
    fatal: tuple[str, ...] = ()
    retriable: tuple[str, ...] | None = None
    """Only these codes are retried; None retries every code that is not fatal."""
    budget_s: float | None = Field(default=None, gt=0)
    """No attempt begins later than this after the step was entered."""


class Timeouts(_Part):
    """Seconds: until a worker takes the task, of running on it, between signs of life, and of the whole step with all attempts."""

    queued_s: float = Field(default=900.0, gt=0)
    running_s: float = Field(default=300.0, gt=0)
    heartbeat_s: float = Field(default=10.0, gt=0)
    total_s: float | None = Field(default=None, gt=0)


class NextRule(_Part):
    """Where a branch goes when its step ended with this status and code. The first rule that fits counts.

    `to`: a later step of the same run, `end` (after the run), or `fail`. A run is a series of steps of one scope.
    """

    status: Literal["OK", "SKIP", "KO", "ERR"]
    code: str | None = Field(default=None, max_length=100)
    """None fits any code. An OK fits by the code that the worker reported with it."""
    to: str = Field(max_length=63)


class Wait(_Part):
    """A step without a worker. It ends at a time, by a `PokeJob`, or by an approval (a `PokeJob` of an operator)."""

    kind: Literal["time", "poke", "approval"]
    for_s: float | None = Field(default=None, ge=0, le=31_536_000)
    until: str | None = None
    """CEL for a time: a timestamp, RFC 3339 text, or Unix seconds."""
    timeout_s: float | None = Field(default=None, gt=0, le=31_536_000)
    """Seconds without an answer after which the step ends as `on_timeout` says."""
    on_timeout: Literal["OK", "KO"] = "KO"

    @model_validator(mode="after")
    def _has_its_time(self) -> Self:
        if self.kind == "time" and (self.for_s is None) == (self.until is None):
            raise ValueError("a wait of kind time needs either for_s or until")
        if self.kind != "time" and (self.for_s is not None or self.until is not None):
            raise ValueError(f"for_s and until are not for a wait of kind {self.kind}: see timeout_s")
        if self.until is not None:
            program(self.until)
        return self


class ChildJob(_Part):
    """A step that is a job of its own. It begins with the branch's file, or all files of the job, and ends with that job."""

    workflow: str = Field(min_length=1, max_length=100)
    version: int | None = Field(default=None, ge=1)
    outputs: bool = False
    """Begin with files that steps of this job made: steps of the whole job if they made any, else steps of its files."""


class Step(_Part):
    """One entry of a workflow: an `action` of workers, a `wait`, or a `job`."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")
    action: str = Field(default="", pattern=r"^([a-z][a-z0-9_]*(\.[a-z0-9_]+)*)?$", max_length=100)
    wait: Wait | None = None
    job: ChildJob | None = None
    revision: int = Field(default=1, ge=1)
    """Raise it when the action changes under the same name. A re-run of what has changed then includes this step."""
    next: tuple[NextRule, ...] = Field(default=(), max_length=50)
    scope: Literal["file", "job"] = "file"
    stage: JobStage = JobStage.IN_PROGRESS
    """The job's stage once its first file enters this step."""
    file_status: FileStatus | None = None
    files: bool = False
    """For a step of scope `job`: its task names all files, with what earlier steps made of each (at most 1,000 files)."""
    validates: bool = False
    """A KO means that the input is wrong: the file ends `invalid` instead of `failed`."""
    config: dict[str, Any] = Field(default_factory=dict)
    open: tuple[str, ...] | None = Field(default=None, max_length=100)
    """Parameters that a job's `args` may set, beside those that the action itself opens."""
    when: str | None = None
    """CEL: the step is skipped where this is false. Names: `file`, `tag`, `score`, `metadata`, `results` and `job`."""
    retry: RetryPolicy = RetryPolicy()
    timeouts: Timeouts = Timeouts()

    @model_validator(mode="after")
    def _stage_is_passing(self) -> Self:
        if self.stage.terminal or not self.stage.known:
            raise ValueError(f"stage {self.stage.value!r} is not one that a step can set")
        return self

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        if sum((bool(self.action), self.wait is not None, self.job is not None)) != 1:
            raise ValueError("a step has exactly one of action, wait and job")
        return self

    @model_validator(mode="after")
    def _files_are_for_jobs(self) -> Self:
        if self.files and (self.scope != "job" or not self.action):
            raise ValueError("files is for an action of scope job")
        return self

    @field_validator("when")
    @classmethod
    def _when_compiles(cls, value: str | None) -> str | None:
        if value is not None:
            program(value)
        return value


class Workflow(_Part):
    """Steps run in order. Each file passes consecutive `file` steps at its own pace; a `job` step waits for all files.

    `join: best_effort` drops files that fail and lists their errors. `join: all` fails the job with its first failed file.
    `join: quorum` fails it when fewer than `quorum` files can still finish. `rescue` steps run once before the job fails.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_.-]{0,98}$")
    version: int = Field(ge=1)
    description: str = ""
    join: Literal["best_effort", "all", "quorum"] = "best_effort"
    quorum: int | None = Field(default=None, ge=1)
    steps: tuple[Step, ...] = Field(min_length=1, max_length=100)
    rescue: tuple[Step, ...] = Field(default=(), max_length=20)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [step.name for step in self.all_steps]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"step names must be unique: {', '.join(repeated)}")
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if (self.join == "quorum") != (self.quorum is not None):
            raise ValueError("join: quorum and quorum: N belong together")
        if any(step.scope != "job" for step in self.rescue):
            raise ValueError("rescue: its steps run once per job; give them scope: job")
        if any("failure" in (step.name for step in part) for part in (self.steps, self.rescue)):
            raise ValueError("a step cannot be named failure: that is what rescue steps find the reason under")
        for index, step in enumerate(self.all_steps):
            for rule in step.next:
                if rule.to not in ("end", "fail") and self.target(index, rule.to) is None:
                    raise ValueError(
                        f"step {step.name}: next: {rule.to!r} is no later step of the same scope before the next join"
                    )
        return self

    @cached_property
    def all_steps(self) -> tuple[Step, ...]:
        """Steps, then rescue steps. A branch's `step` is an index in this."""
        return self.steps + self.rescue

    @cached_property
    def run_ends(self) -> tuple[int, ...]:
        """For each step, the index after its run. The rescue steps are a run of their own."""
        ends: list[int] = []
        for index, step in reversed(list(enumerate(self.all_steps))):
            last = index + 1 in (len(self.steps), len(self.all_steps)) or self.all_steps[index + 1].scope != step.scope
            ends.append(index + 1 if last else ends[-1])
        return tuple(reversed(ends))

    def run_end(self, index: int) -> int:
        """The index after the run of step `index`."""
        return self.run_ends[index]

    def target(self, index: int, name: str) -> int | None:
        """Index of the step called `name`, if it is a later step in the run of step `index`; else None."""
        found = range(index + 1, self.run_end(index))
        return next((i for i in found if self.all_steps[i].name == name), None)

    @cached_property
    def ref(self) -> str:
        """`name@version`: what jobs are pinned to and events carry."""
        return f"{self.name}@{self.version}"

    @cached_property
    def needs_files(self) -> bool:
        """True when at least one step runs per file."""
        return any(step.scope == "file" for step in self.steps)

    def last_file_step(self) -> int:
        """Index of the last step that runs per file, or -1."""
        return max((i for i, step in enumerate(self.steps) if step.scope == "file"), default=-1)
