"""The state of a job as one record on a compacted topic: where a consumer starts before it follows the events."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from contracts.identity import derived
from contracts.loose import Id, Metadata, Text, Timestamp
from contracts.message import Message
from contracts.status import JobStageValue


class JobState(Message):
    """A job as of `sequence`, the number of the last of its job events that is in it. Later events have higher numbers.

    Written about two seconds after a change, several changes at once as one record; `job.state` keeps the last one of each job.
    """

    TYPE = "stageline.job.state.v1"
    VERSION = "1.1"
    job_id: Id
    tenant_id: Id
    tenant_name: Text = ""
    sequence: int = Field(ge=1)
    stage: JobStageValue
    workflow: str
    step: str | None = None
    """The step that the first of its files has reached."""
    created_at: Timestamp
    updated_at: Timestamp
    session_id: str | None = None
    metadata: Metadata = None
    file_count: int = Field(ge=0)
    finished_files: int = Field(ge=0)
    failed_files: int = Field(ge=0)
    """Failed and invalid ones."""
    cancelled_files: int = Field(ge=0)
    retries: int = Field(ge=0)
    error_messages: tuple[str, ...] = ()
    paused_by: str | None = None
    """Who holds the job, if anybody does."""
    parent_job_id: str | None = None
    rerun_of: str | None = None
    job_key: str | None = None

    @property
    def message_id(self) -> str:
        return derived(self.job_id, "state", self.sequence)

    @property
    def key(self) -> str:
        return self.job_id

    @property
    def time(self) -> datetime:
        return self.updated_at

    @property
    def tenant(self) -> str:
        return self.tenant_id
