"""The job and its branches as frozen values, and the table that says which signal a branch may take in which state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

from contracts import FileRef, FileStatus, JobRequest, JobStage, Message, ParentTask, Tenancy, derived
from contracts.work import OutputFile
from services.job_orchestrator.core.workflow import Step, Workflow

JOB_BRANCH = ""
"""Id of the branch that job-scoped steps run on; file branches have their file's id."""


class BranchState(StrEnum):
    """Where the open attempt of a branch is."""

    IDLE = "idle"
    READY = "ready"
    """Its attempt waits for a credit, or for its job to be resumed."""
    WAITING = "waiting"
    """At a wait step, or the whole job before its time."""
    QUEUED = "queued"
    RUNNING = "running"
    BACKOFF = "backoff"
    ARRIVED = "arrived"
    DONE = "done"
    FAILED = "failed"
    INVALID = "invalid"
    CANCELLED = "cancelled"


class Trigger(StrEnum):
    """What can happen to a branch."""

    START = "start"
    GRANT = "grant"
    SIGNAL = "signal"
    RUN = "run"
    OK = "ok"
    SKIP = "skip"
    KO = "ko"
    ERR = "err"
    WAIT = "wait"
    DUE = "due"
    CANCEL = "cancel"


_OPEN = (BranchState.QUEUED, BranchState.RUNNING)
IN_FLIGHT = frozenset(_OPEN)
"""A worker has the task, or will read it from Kafka: these hold a credit."""
_ON = (BranchState.QUEUED, BranchState.READY, BranchState.WAITING, BranchState.RUNNING)
"""Where a branch is that has entered a step: handed out, or not yet; waiting; or a job of its own is running for it."""
_PASSED = (BranchState.ARRIVED, BranchState.DONE, BranchState.FAILED, BranchState.INVALID)
"""Where a branch may be without a task: at a join or the end, also by steps whose conditions are false; or by one that failed."""
_ENDED = (BranchState.DONE, BranchState.FAILED, BranchState.INVALID, BranchState.CANCELLED)

BRANCH_TABLE: Mapping[tuple[BranchState, Trigger], tuple[BranchState, ...]] = {
    **{(s, Trigger.START): (*_ON, *_PASSED) for s in (BranchState.IDLE, BranchState.ARRIVED)},
    (BranchState.IDLE, Trigger.CANCEL): (BranchState.CANCELLED,),
    (BranchState.ARRIVED, Trigger.CANCEL): (BranchState.CANCELLED,),
    (BranchState.READY, Trigger.GRANT): (BranchState.QUEUED,),
    (BranchState.READY, Trigger.DUE): (BranchState.FAILED, BranchState.INVALID, *_ON, *_PASSED),
    (BranchState.READY, Trigger.CANCEL): (BranchState.CANCELLED,),
    (BranchState.WAITING, Trigger.SIGNAL): (*_ON, *_PASSED),
    (BranchState.WAITING, Trigger.DUE): (BranchState.IDLE, *_ON, *_PASSED),
    (BranchState.WAITING, Trigger.CANCEL): (BranchState.CANCELLED,),
    (BranchState.BACKOFF, Trigger.DUE): (*_ON, *_PASSED),
    (BranchState.BACKOFF, Trigger.CANCEL): (BranchState.CANCELLED,),
    **{(s, Trigger.RUN): (BranchState.RUNNING,) for s in _OPEN},
    **{(s, sig): (*_ON, *_PASSED) for s in _OPEN for sig in (Trigger.OK, Trigger.SKIP, Trigger.KO)},
    **{(s, sig): (BranchState.BACKOFF, *_ON, *_PASSED) for s in _OPEN for sig in (Trigger.ERR, Trigger.DUE)},
    **{(s, Trigger.WAIT): (BranchState.BACKOFF,) for s in _OPEN},
    **{(s, Trigger.CANCEL): (BranchState.CANCELLED,) for s in _OPEN},
}
"""(state, signal) → states it may lead to. A missing pair is refused and changes nothing."""


@dataclass(frozen=True)
class Branch:
    """One file's (or the job's own) way through the steps. `due_at` is Unix seconds."""

    id: str
    file: FileRef | None = None
    state: BranchState = BranchState.IDLE
    step: int = 0
    attempt: int = 0
    lease: str = ""
    polls: int = 0
    waiting: bool = False
    """In back-off because the worker asked for time (QUEUED), which uses up no attempt."""
    due_at: float | None = None
    started_at: float | None = None
    entered_at: float | None = None
    """When it came to its step, in Unix seconds; kept only where the step has a total time or a retry budget."""
    since: float | None = None
    """Since when it waits for a credit."""
    status: FileStatus = FileStatus.UPLOADED
    results: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tag: str | None = None
    score: float | None = None
    worker: str | None = None

    @property
    def ended(self) -> bool:
        """True when nothing more can happen to it."""
        return self.state in _ENDED


@dataclass(frozen=True)
class Job:
    """A job's header. Counters stand for the branches that are not loaded; `branches` holds those that an event touches."""

    id: str
    owner: Tenancy
    request: JobRequest
    workflow: Workflow
    created_at: datetime
    updated_at: datetime
    session_id: str | None = None
    stage: JobStage = JobStage.QUEUED
    frontier: int = -1
    sequence: int = 0
    total: int = 0
    arrived: int = 0
    done: int = 0
    failed: int = 0
    invalid: int = 0
    cancelled: int = 0
    retries: int = 0
    exceeded_retries: bool = False
    errors: tuple[str, ...] = ()
    paused_by: str | None = None
    paused_reason: str = ""
    paused_at: float | None = None
    ending: JobStage | None = None
    """The stage it will end in once its rescue steps are done."""
    parent: ParentTask | None = None
    rerun_of: str | None = None
    branches: Mapping[str, Branch] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """True in one of the four terminal stages."""
        return self.stage.terminal

    @property
    def live(self) -> int:
        """File branches that have not dropped out."""
        return self.total - self.failed - self.invalid - self.cancelled

    @property
    def file_ends(self) -> int:
        """File branches that have ended; each has been said to."""
        return self.done + self.failed + self.invalid + self.cancelled

    def step_of(self, branch: Branch) -> Step:
        """The step that a branch is at."""
        return self.workflow.all_steps[branch.step]


def outputs_of(branch: Branch) -> tuple[OutputFile, ...] | None:
    """The files that a branch's steps have made, the last step's that made any; None when none did."""
    for result in reversed(list(branch.results.values())):
        if result.get("outputs"):
            return tuple(OutputFile.model_validate(entry) for entry in result["outputs"])
    return None


def child_id(branch: Branch) -> str:
    """Id of the child job that the branch's open attempt has started."""
    return derived(branch.lease, "job")


V = TypeVar("V", Job, Branch)


def evolve(value: V, fields: Mapping[str, Any]) -> V:
    """A copy of `value` with `fields` replaced. Raises `TypeError` for a field that it does not have.

    As `dataclasses.replace`, which sets all twenty fields one by one: that was a sixth of the orchestrator's CPU.
    """
    known = vars(value)
    merged = {**known, **fields}
    if len(merged) != len(known):
        raise TypeError(f"{type(value).__name__} has no field {', '.join(sorted(fields.keys() - known.keys()))}")
    copy = object.__new__(type(value))
    object.__setattr__(copy, "__dict__", merged)
    return copy


class Output(NamedTuple):
    """A message for a topic. Commands (tasks, cancellations) leave after the facts they follow from."""

    topic: str
    message: Message
    command: bool = False


class Decision(NamedTuple):
    """What follows from one event: the new job, what to publish, or why the event was refused (then nothing changed)."""

    job: Job | None
    outputs: tuple[Output, ...] = ()
    refused: str | None = None


class NeedsAllBranches(Exception):
    """The decision concerns every branch of the job; load them all and decide again."""
