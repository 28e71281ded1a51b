"""A producer's files and request, as messages about sessions, jobs and tasks carry them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from contracts.loose import Id, Metadata, Text, Timestamp
from contracts.message import Contract

MAX_FILES = 1000
"""Most files in one command. A record that names them all stays below Kafka's default limit of 1 MiB."""

MAX_SESSION_FILES = 10_000
"""Most files in one session. Several records name them when the session is closed."""

MAX_PART = 1000
"""Most files in one of several records."""

MAX_LIST_BYTES = 600_000
"""Most bytes of JSON that name files in one record. With the request and its metadata, the record stays below 1 MiB."""


class FileRef(Contract):
    """A file by claim check: the place of its bytes, their size and hashes. A file that is not yet downloaded has a `url` instead."""

    file_id: Id
    file_name: str = Field(min_length=1, max_length=255)
    content_type: str = Field(default="application/octet-stream", max_length=200)
    size: int | None = Field(default=None, ge=0)
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    md5: str | None = Field(default=None, pattern=r"^[0-9a-f]{32}$")
    blob_name: str | None = Field(default=None, max_length=400)
    url: str | None = Field(default=None, max_length=2048)
    metadata: Metadata = None

    @property
    def blob_url(self) -> str:
        """Address of the bytes for people: the remote URL, or the object's name."""
        return self.url or f"stageline://{self.blob_name or self.file_id}"


class OutputFile(Contract):
    """A file that a step made, by claim check."""

    file_name: str = Field(min_length=1, max_length=255)
    blob_name: str = Field(min_length=1, max_length=400)
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    content_type: str = Field(default="application/octet-stream", max_length=200)
    category: str | None = Field(default=None, max_length=100)
    """Purpose of the file, e.g. `invoice-pdf`."""


MAX_OUTPUTS = 200
"""Most files that the results of a file's steps, or of a job's steps, name together."""
Outputs = Annotated[tuple[OutputFile, ...], Field(max_length=MAX_OUTPUTS)]
StepResults = dict[str, dict[str, Any]]
"""Name of a step → what it returned, without its output files."""


class TaskFile(Contract):
    """A file of the job in the task of a whole-job step: the submitted file, and the files that earlier steps made from it."""

    file: FileRef
    outputs: Outputs = ()


class Tenancy(Contract):
    """The owner. It comes from the credential, never from a request body."""

    tenant_id: Id
    tenant_name: Text = Field(default="", max_length=200)
    user_name: Text = Field(default="", max_length=200)


class ParentTask(Contract):
    """The open attempt of another job's step that ends when this job ends."""

    job_id: Id
    file_id: str | None = None
    step: str
    action: str
    attempt: int = Field(ge=1)
    lease: Id
    depth: int = Field(default=1, ge=1, le=10)
    """Number of jobs above this one. The limit stops a workflow that starts itself."""


class JobRequest(Contract):
    """The requested workflow and its options. Field names are those of Alfred's `job/create`."""

    workflow: str = Field(default="documents", min_length=1, max_length=100)
    workflow_version: int | None = Field(default=None, ge=1)
    metadata: Metadata = None
    propagate_metadata: Metadata = None
    merge: bool = False
    decompose: bool = False
    priority: Literal["low", "normal", "high"] = "normal"
    channel: str = Field(default="library", max_length=100)
    parent_file_prefix: str | None = Field(default=None, max_length=400)
    page_rotation: int | None = None
    job_key: str | None = Field(default=None, max_length=200)
    """The producer's own name for the job. Search finds it."""
    start_at: Timestamp | None = None
    """The job starts at this time, not before."""
    args: dict[str, dict[str, Any]] | None = None
    """Step name → settings that override the workflow's own, as far as the action or the step opens them to jobs."""
