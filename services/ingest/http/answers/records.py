"""Answers of our own API: the records of jobs and files. Members that a release added later are optional."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from services.ingest.core.fields import STAGES

TIME = "2026-11-30T12:00:00.000Z"
JOB = "0197f4a2-6c3e-7c1d-9a55-3b1f0d2e4c5b"
FILE = "0197f4a2-6c41-7f02-8a11-5d2b7c9e1f30"


class Output(BaseModel):
    """A file that a step made. `outputs/{number}` downloads it; the first has the number 1."""

    file_name: str
    size: int
    blob_name: str = Field(description="Its name in the object store.")
    sha256: str | None = None
    content_type: str | None = None
    category: str | None = Field(default=None, description="Purpose of the file, such as `invoice-pdf`.")


class Backoff(BaseModel):
    """A failed attempt that is made again at `retry_at`, in Unix seconds."""

    step: str | None = None
    file_id: str | None = None
    attempt: int | None = None
    code: str | None = None
    message: str | None = None
    retry_at: float | None = None


class Paused(BaseModel):
    """Who paused a job, why, and since when (Unix seconds)."""

    by: str | None = None
    reason: str | None = None
    since: float | None = None


class Waiting(BaseModel):
    """Why a job waits: the answer of `GET /v1/jobs/{job_id}/why`, at most a few seconds old."""

    code: str = Field(examples=["running"])
    message: str
    facts: dict[str, Any]
    changes_at: str | None = Field(description="When this will change, if that is known.")
    as_of: str = Field(examples=[TIME], description="From when the reason is.")


class JobRecord(BaseModel):
    """A job. Names that Alfred's API also has mean the same there."""

    id: str = Field(examples=[JOB])
    stage: str = Field(examples=["completed"], description=f"One of {', '.join(STAGES)}. Later releases may add others.")
    step: str | None = Field(description="The step that the job is at.")
    workflow: str | None = Field(examples=["documents@1"], description="The workflow's name and version.")
    creation_date: str = Field(examples=[TIME])
    update_date: str
    start_date: str | None
    finish_date: str | None
    created_at: float = Field(description="Unix seconds.")
    stage_since: float = Field(description="When the job came into its stage, in Unix seconds.")
    sequence: int = Field(description="Number of the job's newest event that the record shows.")
    priority: str = Field(examples=["normal"])
    metadata: Any = Field(description="What the producer gave, unchanged.")
    file_count: int
    finished_files: int
    error_messages: list[str] = Field(description="Why the job failed.")
    retries: int
    exceeded_retries: bool
    retry: Backoff | None
    paused: Paused | None
    outputs: list[Output] = Field(description="Files that steps of the whole job made.")
    results: dict[str, Any] = Field(default_factory=dict, description="Step → what it returned for the whole job.")
    job_key: str | None = Field(description="The producer's own name for the job.")
    parent_job_id: str | None
    rerun_of: str | None
    start_at: float | None = Field(description="Unix seconds. The job starts at this time, not before.")
    company_id: str = Field(description="The tenant.")
    user_name: str
    channel: str
    deferred_session_id: str | None = Field(description="The session that became the job.")
    merge: bool
    decompose: bool
    propagate_metadata: Any
    parent_file_prefix: str | None
    decomposed_page_rotation: int | None
    file_urls: list[str]
    file_sources_count: int
    metadata_objects_count: int
    has_job_request_info: bool
    job_request_date: str | None
    bulk_id: str | None
    source: str | None
    container: str | None
    remote_file_name: str | None
    remote_file_names: list[str] | None
    input_source_type: int
    email_from: str | None
    email_subject: str | None
    email_body: str | None
    file_ends: int | None = Field(default=None, description="How many files of the job have ended, by its last event.")
    file_ends_read: int = Field(default=0, description="How many of these ends the gateway has read.")
    ending: dict[str, Any] | None = Field(default=None, description="The end of a job whose last file events are on the way.")
    uploaded_ids: list[str] = Field(default_factory=list, description="Ids of the files that were uploaded.")


class Progress(BaseModel):
    """How far a step is, in its own units."""

    done: int | float | None = None
    total: int | float | None = None


class FileRecord(BaseModel):
    """A file. Names that Alfred's API also has mean the same there."""

    id: str = Field(examples=[FILE])
    file_name: str = Field(examples=["invoice-17.pdf"])
    file_name_without_extension: str
    status: str = Field(examples=["done"])
    job_id: str | None
    previous_job_id: str | None = Field(default=None, description="The job that it was moved from.")
    deferred_session_id: str | None
    creation_date: str = Field(examples=[TIME])
    update_date: str
    content_type: str | None
    file_size: int | None
    md5_hash: str | None
    blob_name: str | None
    blob_url: str | None
    page_count: int | None
    page_number: int | None
    metadata: Any
    tag_id: str | None
    tag_name: str | None = Field(examples=["invoice"])
    classification_score: float | None
    fields: dict[str, Any] | None = Field(description="Extracted values by name.", examples=[{"total": "1250.00"}])
    properties: dict[str, Any] = Field(description="Properties that steps found.")
    results: dict[str, Any] = Field(default_factory=dict, description="Step → what it returned for the file.")
    outputs: list[Output] = Field(description="Files that steps made of this one.")
    step: str | None
    worker: str | None = Field(description="The worker that has the file now.")
    progress: Progress | None
    code: str | None = Field(description="Why the file failed.")
    message: str | None
    text_blob: str | None
    result_blob: str | None
    index_blob: str | None = None
    folder: str | None = None
    recycled_at: str | None = Field(default=None, description="Since when the file is in the recycle bin.")
    revision: int | None = Field(default=None, description="Number of the newest change by people.")
    company_id: str
    user_name: str | None
    channel: str
    should_be_classified: bool
    classifier: str
    input_type: int
    is_duplicate: bool
    is_duplicate_by_values: bool
    duplicate_origin_id: str | None
    is_parent: bool
    is_children: bool
    parent_id: str | None
    proposed_tag_id: str | None
    proposed_tag_variance: float | None
    classification_score_above_deviation: bool | None
    confirmed_tag_id: str | None
    confirmed_by: str | None
    manual_classification: bool


class ChangedFile(FileRecord):
    """The file after the change."""

    command_id: str = Field(description="Id of the change. The audit has it.")


class JobDetail(JobRecord):
    """A job with its files, and why it waits."""

    files: list[FileRecord]
    waiting: Waiting | None = Field(description="null once the job has ended.")
