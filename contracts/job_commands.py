"""Commands to the orchestrator: create a job, cancel a job. Key: the job id. Any program may publish them; HTTP is one client."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from contracts.loose import Id, Text, Timestamp
from contracts.message import Message
from contracts.work import MAX_FILES, FileRef, JobRequest, ParentTask, Tenancy


class _JobCommand(Message):
    command_id: Id
    job_id: Id
    owner: Tenancy
    issued_at: Timestamp

    @property
    def message_id(self) -> str:
        return self.command_id

    @property
    def key(self) -> str:
        return self.job_id

    @property
    def time(self) -> datetime:
        return self.issued_at

    @property
    def tenant(self) -> str:
        return self.owner.tenant_id


class CreateJob(_JobCommand):
    """Create a job without a session. The producer chooses the job id; a repeat of the id creates no second job."""

    TYPE = "stageline.job.create_command.v1"
    VERSION = "1.1"
    job: JobRequest
    files: tuple[FileRef, ...] = Field(default=(), max_length=MAX_FILES)
    parent: ParentTask | None = None
    """The task of another job that waits for this job's end."""


class CancelJob(_JobCommand):
    """End a job early and cancel its running tasks. Refused for a job that has ended."""

    TYPE = "stageline.job.cancel_command.v1"
    reason: Text = Field(default="", max_length=1000)
