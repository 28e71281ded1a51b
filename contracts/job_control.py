"""The operator's verbs on one job, as commands on `job.commands`, and what became of each (`CommandDecided` on `job.answers`)."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from contracts.job_commands import CancelJob, CreateJob, _JobCommand
from contracts.loose import Id, Metadata, Text, Timestamp
from contracts.message import Message

StepName = str


class TerminateJob(_JobCommand):
    """End a job at once as `failed`; neither its rescue steps nor anything else of it runs any more."""

    TYPE = "stageline.job.terminate_command.v1"
    reason: Text = Field(default="", max_length=1000)


class PauseJob(_JobCommand):
    """Hand out no further tasks of the job until it is resumed; what runs may end."""

    TYPE = "stageline.job.pause_command.v1"
    reason: Text = Field(default="", max_length=1000)


class ResumeJob(_JobCommand):
    """Go on with a paused job."""

    TYPE = "stageline.job.resume_command.v1"
    reason: Text = Field(default="", max_length=1000)


class RetryJobNow(_JobCommand):
    """Do not wait for the back-off of the job's failed attempts (or of one file's) any longer."""

    TYPE = "stageline.job.retry_command.v1"
    file_id: str | None = Field(default=None, max_length=200)
    reason: Text = Field(default="", max_length=1000)


class RerunJob(_JobCommand):
    """Make a new job of one that has ended: its files, and the results of the steps before the one to start from.

    `new_job_id` is the new job's id: the same again is the same job. `metadata`, `args` and `workflow_version` replace what the
    old job had.
    """

    TYPE = "stageline.job.rerun_command.v1"
    new_job_id: Id
    from_step: str | None = Field(default=None, max_length=100)
    """None: from the beginning, or for `changed` from the first step that is not as it was."""
    only: Literal["all", "failed", "changed"] = "all"
    """`failed`: files that did not finish; `changed`: those that did not, or that passed a step whose definition is another now."""
    file_ids: tuple[str, ...] = Field(default=(), max_length=1000)
    """Only these files are run again; none means all that `only` admits."""
    workflow_version: int | None = Field(default=None, ge=1)
    metadata: Metadata = None
    args: dict[str, dict[str, Any]] | None = None
    reason: Text = Field(default="", max_length=1000)


class PokeJob(_JobCommand):
    """What a waiting step waits for has happened: OK goes on with `data` as the step's result, KO fails it with `code`."""

    TYPE = "stageline.job.poke_command.v1"
    step: str | None = Field(default=None, max_length=100)
    """None: whichever step of the job waits."""
    file_id: str | None = Field(default=None, max_length=200)
    outcome: Literal["OK", "KO"] = "OK"
    code: str | None = Field(default=None, max_length=100)
    message: Text | None = Field(default=None, max_length=4000)
    data: dict[str, Any] = Field(default_factory=dict)
    approval: bool = False
    """Given by somebody who may approve: a step that waits for an approval takes no other."""


class ExplainJob(_JobCommand):
    """Ask why a job does not move: answered by `JobExplained`."""

    TYPE = "stageline.job.explain_command.v1"


class EraseJob(_JobCommand):
    """Delete everything that is kept of an ended job: its record, files, history, results, texts. `JobErased` tells all who keep some."""

    TYPE = "stageline.job.erase_command.v1"
    reason: Text = Field(default="", max_length=1000)


class JobErased(Message):
    """A job is to be forgotten by whoever keeps something of it. One job may need several, if it had many objects."""

    TYPE = "stageline.job.erased.v1"
    event_id: Id
    job_id: Id
    tenant_id: Id
    occurred_at: Timestamp
    session_id: str | None = None
    by: Text = ""
    reason: Text = ""
    part: int = Field(default=0, ge=0)
    blobs: tuple[str, ...] = Field(default=(), max_length=2000)
    """Objects that its steps stored; those of other files as well stay."""

    @property
    def message_id(self) -> str:
        return self.event_id

    @property
    def key(self) -> str:
        return self.job_id

    @property
    def time(self) -> datetime:
        return self.occurred_at

    @property
    def tenant(self) -> str:
        return self.tenant_id


class _Answer(Message):
    answer_id: Id
    command_id: Id
    tenant_id: Id
    occurred_at: Timestamp

    @property
    def message_id(self) -> str:
        return self.answer_id

    @property
    def time(self) -> datetime:
        return self.occurred_at

    @property
    def tenant(self) -> str:
        return self.tenant_id


class CommandDecided(_Answer):
    """What became of a command. `ok: false` changed nothing, and `code` and `message` say why."""

    TYPE = "stageline.job.command_decided.v1"
    subject: str = Field(min_length=1, max_length=300)
    """What the command was about: the id of a job, or `action:NAME`, `tenant:ID`, `workflow:NAME`, `schedule:ID`."""
    verb: str = Field(max_length=100)
    ok: bool
    code: str | None = Field(default=None, max_length=100)
    message: Text = ""
    by: Text = ""
    """Who gave the command."""
    reason: Text = ""
    job_id: str | None = None
    sequence: int | None = None
    """The job's newest event as of the decision: whoever has read up to it sees what the command did."""

    @property
    def key(self) -> str:
        return self.subject


class JobExplained(_Answer):
    """Why a job does not move, as one reason with its facts, as of `occurred_at`."""

    TYPE = "stageline.job.explained.v1"
    job_id: Id
    code: str = Field(max_length=100)
    message: Text
    facts: dict[str, Any] = Field(default_factory=dict)
    changes_at: Timestamp | None = None
    """When this will change, if that is known."""

    @property
    def key(self) -> str:
        return self.job_id


JobVerb = TerminateJob | PauseJob | ResumeJob | RetryJobNow | RerunJob | PokeJob
JobCommand = CreateJob | CancelJob | JobVerb | ExplainJob | EraseJob
JOB_COMMANDS = (
    CreateJob, CancelJob, TerminateJob, PauseJob, ResumeJob, RetryJobNow, RerunJob, PokeJob, ExplainJob, EraseJob,
)  # fmt: skip
