"""The state of a job as one record on a compacted topic. A consumer reads it first and then follows the events."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from contracts.identity import derived
from contracts.loose import Id, Metadata, Text, Timestamp
from contracts.message import Message
from contracts.status import JobStageValue
from contracts.work import StepResults


class JobState(Message):
    """A job's state after its event number `sequence`. Later events have higher numbers.

    Published about two seconds after a change; one record may hold several changes. `job.state` keeps the last record of each job.
    """

    TYPE = "stageline.job.state.v1"
    VERSION = "1.2"
    job_id: Id
    tenant_id: Id
    tenant_name: Text = ""
    sequence: int = Field(ge=1)
    stage: JobStageValue
    workflow: str
    step: str | None = None
    """The step that the most advanced file has reached."""
    created_at: Timestamp
    updated_at: Timestamp
    session_id: str | None = None
    metadata: Metadata = None
    file_count: int = Field(ge=0)
    finished_files: int = Field(ge=0)
    failed_files: int = Field(ge=0)
    """Number of failed and invalid files."""
    cancelled_files: int = Field(ge=0)
    retries: int = Field(ge=0)
    error_messages: tuple[str, ...] = ()
    paused_by: str | None = None
    """The user who paused the job. None: it is not paused."""
    parent_job_id: str | None = None
    rerun_of: str | None = None
    job_key: str | None = None
    results: StepResults | None = None
    """What the steps of the whole job have returned so far."""

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
