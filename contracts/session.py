"""Deferred sessions: commands to the session service, and its events. Key: the session id."""

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
    """Open a session. It expires after `ttl_s` seconds unless it is closed before."""

    TYPE = "stageline.session.open.v1"
    ttl_s: int = Field(default=86_400, ge=1, le=31_536_000)


class AddFile(_SessionCommand):
    """Add an uploaded file to a session. A repeat of the file id changes nothing and gets the same answer."""

    TYPE = "stageline.session.add_file.v1"
    file: FileRef


class CloseSession(_SessionCommand):
    """Close the session and create its one job."""

    TYPE = "stageline.session.close.v1"
    VERSION = "1.1"
    job: JobRequest


class EraseSession(_SessionCommand):
    """Delete a session that is open or expired, with its files. A closed session is erased with its job."""

    TYPE = "stageline.session.erase.v1"
    reason: Text = Field(default="", max_length=1000)


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
    """The session accepts files until `expires_at`."""

    TYPE = "stageline.session.opened.v1"
    expires_at: Timestamp


class FileAdded(_SessionEvent):
    """The file was added to the session, which now holds `file_count` files."""

    TYPE = "stageline.session.file_added.v1"
    file: FileRef
    file_count: int = Field(ge=1)


class SessionFiles(_SessionEvent):
    """A part of the files of a session that is being closed, when one record cannot hold them all. `SessionClosed` follows."""

    TYPE = "stageline.session.files.v1"
    job_id: Id
    part: int = Field(ge=0)
    files: tuple[FileRef, ...] = Field(max_length=MAX_PART)


class SessionClosed(_SessionEvent):
    """The session is closed. Carries every file, so that the orchestrator can create the job from it."""

    TYPE = "stageline.session.closed.v1"
    VERSION = "1.1"
    job_id: Id
    job: JobRequest
    files: tuple[FileRef, ...]
    parts: int | None = Field(default=None, ge=1)
    """Number of `SessionFiles` records before this one, for a session with many files. `files` then holds the remaining ones."""
    file_count: int | None = Field(default=None, ge=0)
    """Number of all files of the session."""


class SessionExpired(_SessionEvent):
    """The session expired. No job was created from its files."""

    TYPE = "stageline.session.expired.v1"
    file_count: int = Field(ge=0)


class SessionErased(_SessionEvent):
    """Every service and consumer deletes what it keeps of this session. A session with many objects has several of these events."""

    TYPE = "stageline.session.erased.v1"
    reason: Text = ""
    part: int = Field(default=0, ge=0)
    parts: int = Field(default=1, ge=1)
    blobs: tuple[str, ...] = Field(default=(), max_length=2000)
    """Objects of the session's files. Objects that another file names as well are kept."""


class SessionCommandRefused(_SessionEvent):
    """The command changed nothing, for the given `reason`. `job_id` names the job of a session that is closed already."""

    TYPE = "stageline.session.command_refused.v1"
    reason: Literal["unknown_session", "closed", "expired", "empty", "too_many_files", "other_body", "exists"]
    message: Text
    file_id: str | None = None
    job_id: str | None = None


SessionCommand = OpenSession | AddFile | CloseSession | EraseSession
SessionEvent = SessionOpened | FileAdded | SessionFiles | SessionClosed | SessionExpired | SessionErased | SessionCommandRefused
SESSION_COMMANDS = (OpenSession, AddFile, CloseSession, EraseSession)
SESSION_EVENTS = (
    SessionOpened, FileAdded, SessionFiles, SessionClosed, SessionExpired, SessionErased, SessionCommandRefused,
)  # fmt: skip
