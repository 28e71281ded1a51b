"""An operator's commands about one job (`job.commands`), and the answer to each (`CommandDecided` on `job.answers`)."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from contracts.job_commands import CancelJob, CreateJob, _JobCommand
from contracts.loose import Id, Metadata, Text, Timestamp
from contracts.message import Message

StepName = str


class TerminateJob(_JobCommand):
    """End a job at once as `failed`. Nothing of the job runs after that, not even its rescue steps."""

    TYPE = "stageline.job.terminate_command.v1"
    reason: Text = Field(default="", max_length=1000)


class PauseJob(_JobCommand):
    """Dispatch no further tasks of the job until it is resumed. Running tasks may finish."""

    TYPE = "stageline.job.pause_command.v1"
    reason: Text = Field(default="", max_length=1000)


class ResumeJob(_JobCommand):
    """Continue a paused job."""

    TYPE = "stageline.job.resume_command.v1"
    reason: Text = Field(default="", max_length=1000)


class RetryJobNow(_JobCommand):
    """Retry failed attempts of the job, or of one file, at once instead of after their back-off."""

    TYPE = "stageline.job.retry_command.v1"
    file_id: str | None = Field(default=None, max_length=200)
    reason: Text = Field(default="", max_length=1000)


class RerunJob(_JobCommand):
    """Create a new job from an ended one: with its files, and with the results of the steps before `from_step`.

    `new_job_id` is the id of the new job; a repeat of it creates no second job. `metadata`, `args` and `workflow_version` replace
    those of the old job.
    """

    TYPE = "stageline.job.rerun_command.v1"
    new_job_id: Id
    from_step: str | None = Field(default=None, max_length=100)
    """The first step to run. None: the workflow's first step; with `changed`, the first step whose definition changed."""
    only: Literal["all", "failed", "changed"] = "all"
    """`failed`: the files that did not finish. `changed`: these, and the files that passed a step whose definition has changed."""
    file_ids: tuple[str, ...] = Field(default=(), max_length=1000)
    """Rerun these files alone. Empty: all files that `only` selects."""
    workflow_version: int | None = Field(default=None, ge=1)
    metadata: Metadata = None
    args: dict[str, dict[str, Any]] | None = None
    reason: Text = Field(default="", max_length=1000)


class PokeJob(_JobCommand):
    """Signal a waiting step. `OK` ends the step with `data` as its result; `KO` fails it with `code`."""

    TYPE = "stageline.job.poke_command.v1"
    step: str | None = Field(default=None, max_length=100)
    """The step to signal. None: the waiting step of the job."""
    file_id: str | None = Field(default=None, max_length=200)
    outcome: Literal["OK", "KO"] = "OK"
    code: str | None = Field(default=None, max_length=100)
    message: Text | None = Field(default=None, max_length=4000)
    data: dict[str, Any] = Field(default_factory=dict)
    approval: bool = False
    """True when the sender may approve. A step that waits for an approval takes no other signal."""


class ExplainJob(_JobCommand):
    """Ask why a job makes no progress. `JobExplained` answers it."""

    TYPE = "stageline.job.explain_command.v1"


class EraseJob(_JobCommand):
    """Delete everything of an ended job: record, files, history, results and texts. Services delete their part on `JobErased`."""

    TYPE = "stageline.job.erase_command.v1"
    reason: Text = Field(default="", max_length=1000)


class JobErased(Message):
    """Every service and consumer deletes what it keeps of this job. A job with many objects has several of these events."""

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
    """Objects of the job's files and steps. Objects that another job's file names as well are kept."""

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


class TenantErased(Message):
    """Every service and consumer deletes what it keeps of this tenant: endpoints, deliveries and keys as well as jobs and sessions."""

    TYPE = "stageline.tenant.erased.v1"
    event_id: Id
    tenant_id: Id
    occurred_at: Timestamp
    by: Text = ""

    @property
    def message_id(self) -> str:
        return self.event_id

    @property
    def key(self) -> str:
        return self.tenant_id

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
    """The answer to a command. `ok: false` means that nothing changed; `code` and `message` give the reason."""

    TYPE = "stageline.job.command_decided.v1"
    VERSION = "1.1"
    subject: str = Field(min_length=1, max_length=300)
    """The subject of the command: a job's id, or `action:NAME`, `tenant:ID`, `workflow:NAME`, `schedule:ID`."""
    verb: str = Field(max_length=100)
    ok: bool
    code: str | None = Field(default=None, max_length=100)
    message: Text = ""
    by: Text = ""
    """The user who gave the command."""
    reason: Text = ""
    job_id: str | None = None
    sequence: int | None = None
    """Number of the job's newest event after the decision. A reader that has reached it sees the command's effect."""
    file_id: str | None = None
    """The file that a command about one file changed."""
    revision: int | None = None
    """Number of the file's newest change by people after the decision: `revision` of its events."""

    @property
    def key(self) -> str:
        return self.subject


class JobExplained(_Answer):
    """Why a job makes no progress: one reason and its facts, as of `occurred_at`."""

    TYPE = "stageline.job.explained.v1"
    job_id: Id
    code: str = Field(max_length=100)
    message: Text
    facts: dict[str, Any] = Field(default_factory=dict)
    changes_at: Timestamp | None = None
    """When this will change, if known."""

    @property
    def key(self) -> str:
        return self.job_id


JobVerb = TerminateJob | PauseJob | ResumeJob | RetryJobNow | RerunJob | PokeJob
JobCommand = CreateJob | CancelJob | JobVerb | ExplainJob | EraseJob
JOB_COMMANDS = (
    CreateJob, CancelJob, TerminateJob, PauseJob, ResumeJob, RetryJobNow, RerunJob, PokeJob, ExplainJob, EraseJob,
)  # fmt: skip
