"""What a producer hands in: files and the wish of what to do with them. Shared by sessions, jobs and tasks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from contracts.loose import Id, Metadata, Text
from contracts.message import Contract

MAX_FILES = 1000
"""Files in one session or job: a record naming them all stays below Kafka's 1 MiB default."""

MAX_LIST_BYTES = 600_000
"""All files of a session as JSON: with the wish (two metadata of 64 KiB) they travel in one record of less than 1 MiB."""


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


class Tenancy(Contract):
    """Who owns it. Comes from the credential, never from a request body."""

    tenant_id: Id
    tenant_name: Text = Field(default="", max_length=200)
    user_name: Text = Field(default="", max_length=200)


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
