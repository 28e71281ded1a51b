"""Answers of our own API about jobs: made, found, steered, explained, their history and results."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from services.ingest.core.job_filter import Filter
from services.ingest.http.answers.records import FILE, JOB, JobRecord, Paused


class CreatedJob(BaseModel):
    """The job that the call made, or that an earlier call with the same id or key made."""

    job_id: str = Field(examples=[JOB])
    stage: str = Field(examples=["queued"])
    file_ids: list[str] = Field(examples=[[FILE]])


class JobPage(BaseModel):
    """One page of jobs."""

    result: list[JobRecord]
    next: str | None = Field(description="`cursor` of the next page; null on the last.")


class SavedQuery(BaseModel):
    """A saved search."""

    name: str = Field(examples=["failed-invoices"])
    filter: Filter


class SavedQueries(BaseModel):
    """The tenant's saved searches."""

    result: list[SavedQuery]


class SteeredJob(BaseModel):
    """The job after the command."""

    job_id: str = Field(examples=[JOB])
    command_id: str
    stage: str = Field(examples=["cancelled"])
    paused: Paused | None


class JobRun(BaseModel):
    """The new job."""

    job_id: str = Field(examples=[JOB])
    rerun_of: str
    command_id: str


class Explanation(BaseModel):
    """Why a job makes no progress: one reason with its facts."""

    job_id: str | None = Field(description="null for an open session.")
    code: str = Field(examples=["paused"])
    message: str
    facts: dict[str, Any]
    as_of: str | None = Field(default=None, description="When the orchestrator looked.")
    changes_at: str | float | None = Field(description="When this will change, if that is known.")


class History(BaseModel):
    """One page of a job's history."""

    result: list[dict[str, Any]] = Field(
        description="Events as on `job.events` and `file.events`; the AsyncAPI document has them."
    )
    next: int | None = Field(description="`after` of the next page; null on the last.")


class ResultOutput(BaseModel):
    """A file that a step made, and the path that downloads it."""

    file_name: str
    size: int
    url: str = Field(examples=[f"/v1/jobs/{JOB}/outputs/1"])


class FileResult(BaseModel):
    """What came out of a file."""

    file_id: str = Field(examples=[FILE])
    file_name: str
    status: str = Field(examples=["done"])
    tag: str | None = Field(examples=["invoice"])
    score: float | None
    code: str | None = Field(description="Why the file failed.")
    message: str | None
    fields: dict[str, Any] = Field(examples=[{"total": "1250.00"}])
    properties: dict[str, Any]
    results: dict[str, Any] = Field(description="Step → what it returned for the file.")
    outputs: list[ResultOutput]


class JobResult(BaseModel):
    """What came out of a job."""

    job_id: str = Field(examples=[JOB])
    job_key: str | None
    workflow: str | None
    stage: str = Field(examples=["completed"])
    error_messages: list[str]
    results: dict[str, Any] = Field(description="Step → what it returned for the whole job.")
    outputs: list[ResultOutput]
    files: list[FileResult]


class JobResults(BaseModel):
    """What came out of one page of jobs."""

    result: list[JobResult]
    next: str | None = Field(description="`cursor` of the next page; null on the last.")


class SearchHit(BaseModel):
    """A file that contains the words. They stand in square brackets in `snippet`."""

    file_id: str = Field(examples=[FILE])
    file_name: str
    snippet: str | None


class SearchHits(BaseModel):
    """The best matches."""

    result: list[SearchHit]


class BulkRun(BaseModel):
    """A bulk run and its progress."""

    id: str
    verb: str = Field(examples=["retry"])
    state: str = Field(examples=["running"], description="`running`, `stopped` or `done`.")
    filter: dict[str, Any]
    reason: str
    rate_per_s: float
    options: dict[str, Any]
    by: str
    tenant_name: str
    count: int = Field(description="Jobs that fitted at the start.")
    done: int
    refused: int
    cursor: str | None
    created_at: float = Field(description="Unix seconds.")


class BulkStarted(BaseModel):
    """The bulk run, or with `dry_run` what it would concern."""

    id: str | None = None
    verb: str | None = None
    state: str | None = None
    filter: dict[str, Any] | None = None
    reason: str | None = None
    rate_per_s: float | None = None
    options: dict[str, Any] | None = None
    by: str | None = None
    tenant_name: str | None = None
    count: int
    done: int | None = None
    refused: int | None = None
    cursor: str | None = None
    created_at: float | None = None
    dry_run: bool | None = None
    jobs: list[dict[str, str]] | None = Field(default=None, description="Some of the jobs that fit.")


class BulkRuns(BaseModel):
    """The newest bulk runs."""

    result: list[BulkRun]


class ResultPackage(BaseModel):
    """All findings on a file, as the action `result.package` wrote them. A worker of your own may write other members."""

    file_id: str | None = None
    file_name: str | None = None
    content_type: str | None = None
    size: int | None = None
    sha256: str | None = None
    metadata: Any = None
    tag: dict[str, Any] | None = None
    fields: dict[str, Any] | None = None
    properties: dict[str, Any] | None = None
    text_blob: str | None = None
    steps: list[str] | None = None
