"""The eight job events of Alfred (reference/vendor-apis.md §1.2). `JobStageUpdate` is the one that drives the pipeline."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from contracts.alfred import AlfredEvent, Dated
from contracts.loose import Id, Metadata, Text
from contracts.status import JobStageValue
from contracts.work import Outputs


class JobFields(Dated):
    """Common to all job events."""

    KIND = "job_event"
    job_id: Id
    deferred_session_id: str | None = None
    """Ours: the session the job was made from."""


class JobCreateFields(JobFields):
    NAME: ClassVar[str] = "job_create_event"
    user_name: Text
    merge: bool
    metadata: Metadata = None
    file_count: int = Field(ge=0)
    file_urls: tuple[str, ...] = ()
    job_key: str | None = None
    """Ours: the producer's own name for the job."""
    priority: str | None = None
    parent_job_id: str | None = None
    """Ours: the job one of whose steps this job is."""
    rerun_of: str | None = None
    """Ours: the ended job that this one runs again."""
    start_at: float | None = None
    """Ours: it begins then, in Unix seconds."""


class JobStartFields(JobFields):
    NAME: ClassVar[str] = "job_start_event"


class JobStageUpdateFields(JobFields):
    """`stage` is the new stage; `previous_stage` is ours, since the vendor's shape cannot show a gap or a repeat."""

    NAME: ClassVar[str] = "job_stage_update_event"
    stage: JobStageValue
    previous_stage: JobStageValue | None = None
    verb: str | None = None
    """Ours: what somebody did to the job (`pause`, `resume`, `retry`, `poke`); the stage may be the same then."""
    by: str | None = None
    reason: str | None = None
    previous_step: str | None = None
    """Ours: the step whose end led here, and how it ended: `OK`, `SKIP`, `KO` or `ERR`, with the worker's code and sentence."""
    step_status: str | None = None
    step_code: str | None = None
    step_message: str | None = None


class JobRetryFields(JobFields):
    """The job re-attempts its stage. `code`, `message`, `attempt`, `file_id` and `retry_at` are ours: why, which, when."""

    NAME: ClassVar[str] = "job_retry_event"
    user_name: Text
    merge: bool
    metadata: Metadata = None
    file_count: int = Field(ge=0)
    retries: int = Field(ge=0)
    exceeded_retries: bool
    file_id: str | None = None
    attempt: int | None = None
    code: str | None = None
    message: str | None = None
    retry_at: float | None = None


class JobExceededRetriesFields(JobRetryFields):
    NAME: ClassVar[str] = "job_exceeded_retries_event"


class JobFailedFields(JobRetryFields):
    NAME: ClassVar[str] = "job_failed_event"
    error_messages: tuple[Text, ...] = ()
    stage: JobStageValue | None = None
    """Ours: `failed`, or `cancelled` when somebody ended the job: the vendor has no event of its own for that."""
    file_ends: int | None = None
    """Ours: as with `JobFinished`."""


class JobInvalidFields(JobFailedFields):
    NAME: ClassVar[str] = "job_invalid_event"


class JobFinishedFields(JobFields):
    """`finished_files`, `failed_files` and `error_messages` are ours: best effort leaves a job finished with faults."""

    NAME: ClassVar[str] = "job_finished_event"
    finished_files: int | None = None
    failed_files: int | None = None
    error_messages: tuple[Text, ...] = ()
    outputs: Outputs | None = None
    """Ours: files that steps of the whole job have made."""
    file_ends: int | None = None
    """Ours: how many of its files have ended, each by one event on `file.events` (`FileDone`, `FileFailed`, or a `FileStatusUpdate`
    to a terminal status). The two topics have no common order: whoever needs both has all of it once that many have been read."""


class JobCreate(AlfredEvent[JobCreateFields]):
    TYPE = "stageline.job.create.v1"
    VERSION = "1.1"


class JobStart(AlfredEvent[JobStartFields]):
    TYPE = "stageline.job.start.v1"


class JobStageUpdate(AlfredEvent[JobStageUpdateFields]):
    TYPE = "stageline.job.stage_update.v1"
    VERSION = "1.2"


class JobRetry(AlfredEvent[JobRetryFields]):
    TYPE = "stageline.job.retry.v1"


class JobExceededRetries(AlfredEvent[JobExceededRetriesFields]):
    TYPE = "stageline.job.exceeded_retries.v1"


class JobFailed(AlfredEvent[JobFailedFields]):
    TYPE = "stageline.job.failed.v1"
    VERSION = "1.1"


class JobInvalid(AlfredEvent[JobInvalidFields]):
    TYPE = "stageline.job.invalid.v1"
    VERSION = "1.1"


class JobFinished(AlfredEvent[JobFinishedFields]):
    TYPE = "stageline.job.finished.v1"
    VERSION = "1.2"


JobEvent = JobCreate | JobStart | JobStageUpdate | JobRetry | JobExceededRetries | JobFailed | JobInvalid | JobFinished
JOB_EVENTS = (JobCreate, JobStart, JobStageUpdate, JobRetry, JobExceededRetries, JobFailed, JobInvalid, JobFinished)
