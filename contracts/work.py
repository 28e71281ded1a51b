"""What a producer hands in: files and the wish of what to do with them. Shared by sessions, jobs and tasks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from contracts.loose import Id, Metadata, Text, Timestamp
from contracts.message import Contract

MAX_FILES = 1000
"""Files in one command: a record naming them all stays below Kafka's 1 MiB default."""

MAX_SESSION_FILES = 10_000
"""Files in one session: its closing names them in several records if need be."""

MAX_PART = 1000
"""Files in one record of several."""

MAX_LIST_BYTES = 600_000
"""Files in one record as JSON: with the wish (two metadata of 64 KiB) they travel in less than 1 MiB."""


class FileRef(Contract):
    """A file by claim check: where its bytes are and what they must hash to. `url` instead while still remote."""

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
        """Address of the bytes for people: the object, or the remote source."""
        return self.url or f"stageline://{self.blob_name or self.file_id}"


class OutputFile(Contract):
    """A file that a step has made, by claim check."""

    file_name: str = Field(min_length=1, max_length=255)
    blob_name: str = Field(min_length=1, max_length=400)
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    content_type: str = Field(default="application/octet-stream", max_length=200)
    category: str | None = Field(default=None, max_length=100)
    """What it is for, e.g. `invoice-pdf`."""


MAX_OUTPUTS = 200
"""Files that the results of a file's steps, or of a job's, name together."""
Outputs = Annotated[tuple[OutputFile, ...], Field(max_length=MAX_OUTPUTS)]


class TaskFile(Contract):
    """A file of a job as a step of the whole job gets it: what was handed in, and what earlier steps made of it."""

    file: FileRef
    outputs: Outputs = ()


class Tenancy(Contract):
    """Who owns it. Comes from the credential, never from a request body."""

    tenant_id: Id
    tenant_name: Text = Field(default="", max_length=200)
    user_name: Text = Field(default="", max_length=200)


class ParentTask(Contract):
    """The open attempt of another job that ends when this job does."""

    job_id: Id
    file_id: str | None = None
    step: str
    action: str
    attempt: int = Field(ge=1)
    lease: Id
    depth: int = Field(default=1, ge=1, le=10)
    """Jobs above: a workflow that starts itself ends here."""


class JobRequest(Contract):
    """The wish: which workflow with which options. Field names as in Alfred's job/create."""

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
    """The producer's own name for the job; found by search."""
    start_at: Timestamp | None = None
    """Not before this time."""
    args: dict[str, dict[str, Any]] | None = None
    """Step name → settings that win over the workflow's own."""
