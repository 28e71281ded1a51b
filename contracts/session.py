"""Deferred sessions: commands to the arbiter, and what it decided. Key: the session id."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from contracts.loose import Id, Text, Timestamp
from contracts.message import Message
from contracts.work import MAX_PART, FileRef, JobRequest, Tenancy


class _SessionMessage(Message):
    session_id: Id
    owner: Tenancy

    @property
    def key(self) -> str:
        return self.session_id

    @property
    def tenant(self) -> str:
        return self.owner.tenant_id


class _SessionCommand(_SessionMessage):
    command_id: Id
    issued_at: Timestamp

    @property
    def message_id(self) -> str:
        return self.command_id

    @property
    def time(self) -> datetime:
        return self.issued_at


class OpenSession(_SessionCommand):
    """Open a session that lives `ttl_s` seconds unless a job closes it."""

    TYPE = "stageline.session.open.v1"
    ttl_s: int = Field(default=86_400, ge=1, le=31_536_000)


class AddFile(_SessionCommand):
    """Add an uploaded file. Adding the same file id again changes nothing and is answered the same way."""

    TYPE = "stageline.session.add_file.v1"
    file: FileRef


class CloseSession(_SessionCommand):
    """Close the session by making its one job."""

    TYPE = "stageline.session.close.v1"
    VERSION = "1.1"
    job: JobRequest


class _SessionEvent(_SessionMessage):
    event_id: Id
    caused_by: Id
    occurred_at: Timestamp

    @property
    def message_id(self) -> str:
        return self.event_id

    @property
    def time(self) -> datetime:
        return self.occurred_at


class SessionOpened(_SessionEvent):
    """The session takes files from now on, until `expires_at`."""

    TYPE = "stageline.session.opened.v1"
    expires_at: Timestamp


class FileAdded(_SessionEvent):
    """The file is in the session, which now holds `file_count` files."""

    TYPE = "stageline.session.file_added.v1"
    file: FileRef
    file_count: int = Field(ge=1)


class SessionFiles(_SessionEvent):
    """Files of a session that is being closed, when there are too many for one record. `SessionClosed` follows."""

    TYPE = "stageline.session.files.v1"
    job_id: Id
    part: int = Field(ge=0)
    files: tuple[FileRef, ...] = Field(max_length=MAX_PART)


class SessionClosed(_SessionEvent):
    """The one closing: carries every file, so the orchestrator needs nothing else to make the job."""

    TYPE = "stageline.session.closed.v1"
    VERSION = "1.1"
    job_id: Id
    job: JobRequest
    files: tuple[FileRef, ...]
    parts: int | None = Field(default=None, ge=1)
    """Of a session with many files: how many `SessionFiles` came before this; `files` are then the last of them."""
    file_count: int | None = Field(default=None, ge=0)
    """All files together."""


class SessionExpired(_SessionEvent):
    """Its time is over; what was in it never became a job."""

    TYPE = "stageline.session.expired.v1"
    file_count: int = Field(ge=0)


class SessionCommandRefused(_SessionEvent):
    """The command changed nothing; `reason` says why. `job_id` names the job when the session is closed already."""

    TYPE = "stageline.session.command_refused.v1"
    reason: Literal["unknown_session", "closed", "expired", "empty", "too_many_files", "other_body", "exists"]
    message: Text
    file_id: str | None = None
    job_id: str | None = None


SessionCommand = OpenSession | AddFile | CloseSession
SessionEvent = SessionOpened | FileAdded | SessionFiles | SessionClosed | SessionExpired | SessionCommandRefused
SESSION_COMMANDS = (OpenSession, AddFile, CloseSession)
SESSION_EVENTS = (SessionOpened, FileAdded, SessionFiles, SessionClosed, SessionExpired, SessionCommandRefused)
