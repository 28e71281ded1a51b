"""A job and its branches as frozen values, and the table of a branch's states and triggers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

from contracts import FileRef, FileStatus, JobRequest, JobStage, Message, ParentTask, Tenancy, derived
from contracts.actions import ACTIONS
from contracts.work import OutputFile
from services.job_orchestrator.core.workflow import Step, Workflow

JOB_BRANCH = ""
"""Id of the branch that steps of scope `job` run on. A file's branch has the file's id."""


class BranchState(StrEnum):
    """Where a branch is."""

    IDLE = "idle"
    """It has not entered a step."""
    READY = "ready"
    """Its attempt waits for a credit, or for a paused job to be resumed."""
    WAITING = "waiting"
    """It is at a wait step; or it is the job's own branch and the job has not reached its `start_at`."""
    QUEUED = "queued"
    """Its task is handed out, and no worker has reported on it."""
    RUNNING = "running"
    BACKOFF = "backoff"
    """It waits for its next attempt."""
    ARRIVED = "arrived"
    """It waits at a join for the other files."""
    DONE = "done"
    FAILED = "failed"
    INVALID = "invalid"
    CANCELLED = "cancelled"


class Trigger(StrEnum):
    """What can happen to a branch."""

    START = "start"
    GRANT = "grant"
    """A credit for its attempt."""
    SIGNAL = "signal"
    """Somebody answers its wait step (`PokeJob`)."""
    RUN = "run"
    OK = "ok"
    SKIP = "skip"
    KO = "ko"
    ERR = "err"
    WAIT = "wait"
    """Its worker asks for time (a report of status QUEUED)."""
    DUE = "due"
    """Its timer is due."""
    CANCEL = "cancel"


_OPEN = (BranchState.QUEUED, BranchState.RUNNING)
IN_FLIGHT = frozenset(_OPEN)
"""States that hold a credit: the task is at a worker, or in Kafka on the way to one."""
_ON = (BranchState.QUEUED, BranchState.READY, BranchState.WAITING, BranchState.RUNNING)
"""States of a branch that has entered a step. RUNNING also stands for a child job that runs."""
_PASSED = (BranchState.ARRIVED, BranchState.DONE, BranchState.FAILED, BranchState.INVALID)
"""States of a branch that has passed its steps: at a join, at the end, or failed. Steps with false conditions are passed at once."""
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
"""(state, trigger) → states that it may lead to. A missing pair is refused and changes nothing."""


@dataclass(frozen=True)
class Branch:
    """One file's way through the steps, or the job's own. All times are Unix seconds."""

    id: str
    file: FileRef | None = None
    state: BranchState = BranchState.IDLE
    step: int = 0
    """Index in the workflow's `all_steps`."""
    attempt: int = 0
    """Number of the open or last attempt, from 1; 0 before the first."""
    lease: str = ""
    """Id of the open attempt. A report on another lease is refused."""
    polls: int = 0
    """How often the worker asked for time in this attempt."""
    returned: int | None = None
    """How many of these polls were a worker's that was stopped. None: none."""
    waiting: bool = False
    """True in a back-off that the worker asked for. It uses up no attempt."""
    due_at: float | None = None
    """Its timer."""
    started_at: float | None = None
    """First sign of life of the worker in this attempt."""
    entered_at: float | None = None
    """When it entered its step. Kept only where the step has a total time or a retry budget."""
    since: float | None = None
    """When it began to wait for a credit."""
    status: FileStatus = FileStatus.UPLOADED
    results: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tag: str | None = None
    score: float | None = None
    worker: str | None = None
    revision: int | None = None
    """How often people have changed the file in this job. None: never."""
    recycled_at: float | None = None
    """When it came into the recycle bin. None: it is not there."""
    session_id: str | None = None
    """The session that a file was added to which came from another job."""
    former_jobs: tuple[str, ...] | None = None
    """The jobs that such a file was in, the newest 100."""

    @property
    def ended(self) -> bool:
        """True in the four final states."""
        return self.state in _ENDED


@dataclass(frozen=True)
class Job:
    """A job's header, and the branches that are loaded. Its counters cover all branches of files, loaded or not."""

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
    """The stage that it ends in once its rescue steps are done."""
    parent: ParentTask | None = None
    rerun_of: str | None = None
    reruns: tuple[str, ...] = ()
    """Jobs that ran this one again, or one of its reruns: they may have kept its results."""
    branches: Mapping[str, Branch] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """True in one of the four terminal stages."""
        return self.stage.terminal

    @property
    def live(self) -> int:
        """Files that have not dropped out."""
        return self.total - self.failed - self.invalid - self.cancelled

    @property
    def file_ends(self) -> int:
        """Files that have ended. Each has an event that says so."""
        return self.done + self.failed + self.invalid + self.cancelled

    def step_of(self, branch: Branch) -> Step:
        """The step that a branch is at."""
        return self.workflow.all_steps[branch.step]


def outputs_of(branch: Branch) -> tuple[OutputFile, ...] | None:
    """The files that the branch's last productive step made; None where no step made any."""
    for result in reversed(list(branch.results.values())):
        if result.get("outputs"):
            return tuple(OutputFile.model_validate(entry) for entry in result["outputs"])
    return None


def results_of(job: Job, branch: Branch | None) -> dict[str, dict[str, Any]] | None:
    """What the branch's steps returned, by step, without output files. None where nothing was.

    Of a file's steps, those with built-in actions are left out: their results are the file's own fields.
    """
    if branch is None or not branch.results:
        return None
    steps = (s for s in job.workflow.all_steps if branch.id == JOB_BRANCH or s.action not in ACTIONS)
    found = {
        step.name: {k: v for k, v in branch.results[step.name].items() if k != "outputs"}
        for step in steps
        if branch.results.get(step.name)
    }
    return {name: result for name, result in found.items() if result} or None


def child_id(branch: Branch) -> str:
    """Id of the child job that the branch's open attempt has started."""
    return derived(branch.lease, "job")


V = TypeVar("V", Job, Branch)


def evolve(value: V, fields: Mapping[str, Any]) -> V:
    """A copy of `value` with `fields` replaced. Raises `TypeError` for a field that it does not have.

    Faster than `dataclasses.replace`, which sets every field of the copy one by one.
    """
    known = vars(value)
    merged = {**known, **fields}
    if len(merged) != len(known):
        raise TypeError(f"{type(value).__name__} has no field {', '.join(sorted(fields.keys() - known.keys()))}")
    copy = object.__new__(type(value))
    object.__setattr__(copy, "__dict__", merged)
    return copy


class Output(NamedTuple):
    """A message for a topic. A `command` (a task, a cancellation) is published after the facts that it follows from."""

    topic: str
    message: Message
    command: bool = False


class Decision(NamedTuple):
    """What follows from one event: the new job and the messages, or the reason why the event was refused."""

    job: Job | None
    outputs: tuple[Output, ...] = ()
    refused: str | None = None
    why: str | None = None
    """A sentence that names the field at fault, where the reason has no fixed one."""


class NeedsAllBranches(Exception):
    """The decision needs every branch of the job. The caller loads them and decides again."""
