"""The eight job events of Alfred (reference/vendor-apis.md §1.2). `JobStageUpdate` reports every change of a job's stage."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from contracts.alfred import AlfredEvent, Dated
from contracts.loose import Id, Metadata, Text
from contracts.status import JobStageValue
from contracts.work import Outputs, StepResults


class JobFields(Dated):
    """Fields of all job events."""

    KIND = "job_event"
    job_id: Id
    deferred_session_id: str | None = None
    """Ours: the session that the job was created from."""


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
    """Ours: the job that started this job as one of its steps."""
    rerun_of: str | None = None
    """Ours: the ended job that this job reruns."""
    start_at: float | None = None
    """Ours: when the job starts, in Unix seconds."""
    uploaded_ids: tuple[str, ...] | None = None
    """Ours: ids of the files that have no address in `file_urls`, the first 1,000 of them. Their bytes are in the object store."""


class JobStartFields(JobFields):
    NAME: ClassVar[str] = "job_start_event"


class JobStageUpdateFields(JobFields):
    """`stage` is the new stage. `previous_stage` is ours: with it, a consumer recognises a gap or a repeat."""

    NAME: ClassVar[str] = "job_stage_update_event"
    stage: JobStageValue
    previous_stage: JobStageValue | None = None
    verb: str | None = None
    """Ours: an operator's command (`pause`, `resume`, `retry`, `poke`). The stage may be unchanged then."""
    by: str | None = None
    reason: str | None = None
    previous_step: str | None = None
    """Ours: the step whose end caused this event."""
    step_status: str | None = None
    """Ours: how that step ended: `OK`, `SKIP`, `KO` or `ERR`. `step_code` and `step_message` are the worker's reason."""
    step_code: str | None = None
    step_message: str | None = None


class JobRetryFields(JobFields):
    """The job retries a step. `code`, `message`, `attempt`, `file_id` and `retry_at` are ours: reason, attempt and time."""

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
    """Ours: `failed`, or `cancelled` when the job was cancelled. The vendor has no event for a cancelled job."""
    file_ends: int | None = None
    """Ours: number of files that have ended; see `JobFinished`."""
    results: StepResults | None = None
    """Ours: what the steps of the whole job returned until then."""


class JobInvalidFields(JobFailedFields):
    NAME: ClassVar[str] = "job_invalid_event"


class JobFinishedFields(JobFields):
    """`finished_files`, `failed_files` and `error_messages` are ours: a best-effort job may finish although files failed."""

    NAME: ClassVar[str] = "job_finished_event"
    finished_files: int | None = None
    failed_files: int | None = None
    error_messages: tuple[Text, ...] = ()
    outputs: Outputs | None = None
    """Ours: files that steps of the whole job made."""
    results: StepResults | None = None
    """Ours: what the steps of the whole job returned. Together at most 400 kB of JSON."""
    file_ends: int | None = None
    """Ours: number of files that have ended. Each has one such event on `file.events`: `FileDone`, `FileFailed`, or a
    `FileStatusUpdate` with a terminal status. The two topics have no common order: read that many events before relying on them."""


class JobCreate(AlfredEvent[JobCreateFields]):
    TYPE = "stageline.job.create.v1"
    VERSION = "1.2"


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
    VERSION = "1.2"


class JobInvalid(AlfredEvent[JobInvalidFields]):
    TYPE = "stageline.job.invalid.v1"
    VERSION = "1.2"


class JobFinished(AlfredEvent[JobFinishedFields]):
    TYPE = "stageline.job.finished.v1"
    VERSION = "1.3"


JobEvent = JobCreate | JobStart | JobStageUpdate | JobRetry | JobExceededRetries | JobFailed | JobInvalid | JobFinished
JOB_EVENTS = (JobCreate, JobStart, JobStageUpdate, JobRetry, JobExceededRetries, JobFailed, JobInvalid, JobFinished)
