"""Decides what a command does to a session. Every command gets exactly one answer event."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol, assert_never

from contracts import (
    AddFile,
    CloseSession,
    EraseSession,
    FileAdded,
    FileRef,
    OpenSession,
    SessionClosed,
    SessionCommand,
    SessionCommandRefused,
    SessionErased,
    SessionEvent,
    SessionExpired,
    SessionFiles,
    SessionOpened,
    derived,
)
from contracts.ownership import owns
from contracts.work import MAX_LIST_BYTES, MAX_PART, MAX_SESSION_FILES
from services.session.core.session import Decision, Session, SessionState, job_of

NAMES_PER_RECORD = 2000
"""Object names in one `SessionErased`."""
MAX_SESSION_BYTES = MAX_LIST_BYTES * MAX_SESSION_FILES // MAX_PART


@dataclass(frozen=True, slots=True)
class Expire:
    """The session has reached its expiry time."""

    session_id: str


class Files(Protocol):
    """The session's files, read only when a decision needs them."""

    def file(self, session_id: str, file_id: str) -> FileRef | None:
        """One file of the session, or None."""
        ...

    def files(self, session_id: str) -> tuple[FileRef, ...]:
        """All files of the session, in the order in which they were added."""
        ...


def decide(session: Session | None, event: SessionCommand | Expire, now: datetime, files: Files) -> Decision:
    """The new session and the events that follow from `event`. `session` is None when the id is unknown; `now` is in UTC."""
    if isinstance(event, Expire):
        return _expire(session, now)
    if session is not None and session.owner.tenant_id != event.owner.tenant_id:
        session = None
        if isinstance(event, OpenSession):
            return _refuse(event, now, "exists", "session_id: the id cannot be used")
    if isinstance(event, OpenSession):
        return _open(session, event, now)
    if session is None:
        text = f"Deferred Session with ID {event.session_id} does not exist."
        return Decision(None, _refuse(event, now, "unknown_session", text).outputs)
    if isinstance(event, AddFile):
        return _add(session, event, now, files)
    if isinstance(event, CloseSession):
        return _close(session, event, now, files)
    if isinstance(event, EraseSession):
        return _erase(session, event, now, files)
    assert_never(event)


def _refuse(
    command: SessionCommand,
    now: datetime,
    reason: str,
    message: str,
    job_id: str | None = None,
    session: Session | None = None,
) -> Decision:
    answer = SessionCommandRefused.model_validate(
        {
            "event_id": derived(command.command_id, "refused"), "session_id": command.session_id, "owner": command.owner,
            "caused_by": command.command_id, "occurred_at": now, "reason": reason, "message": message, "job_id": job_id,
            "file_id": command.file.file_id if isinstance(command, AddFile) else None,
        }
    )  # fmt: skip
    return Decision(session, (answer,))


def _open(session: Session | None, command: OpenSession, now: datetime) -> Decision:
    if session is None:
        session = Session(command.session_id, command.owner, SessionState.OPEN, now, now + timedelta(seconds=command.ttl_s))
    elif session.state is not SessionState.OPEN:
        return _refuse(command, now, "exists", f"session_id: the session is {session.state.value}", session.job_id, session)
    event = SessionOpened(
        event_id=derived(command.command_id, "opened"), session_id=session.id, owner=session.owner,
        caused_by=command.command_id, occurred_at=now, expires_at=session.expires_at,
    )  # fmt: skip
    return Decision(session, (event,))


def _not_open(session: Session, command: SessionCommand, now: datetime) -> Decision | None:
    if session.state is SessionState.CLOSED:
        text = f"Deferred Session with ID {session.id} is closed: job {session.job_id} was created from it."
        return _refuse(command, now, "closed", text, session.job_id, session)
    if session.state is SessionState.EXPIRED or session.expires_at <= now:
        text = f"Deferred Session with ID {session.id} expired at {session.expires_at.isoformat()}."
        return _refuse(command, now, "expired", text, session=session)
    return None


def _add(session: Session, command: AddFile, now: datetime, files: Files) -> Decision:
    refused = _not_open(session, command, now)
    if refused is not None:
        return refused
    known = files.file(session.id, command.file.file_id)
    if known is not None and known.sha256 != command.file.sha256:
        return _refuse(command, now, "other_body", "file: this file id was added with other content", session=session)
    if known is None and session.file_count >= MAX_SESSION_FILES:
        text = f"file: a session holds at most {MAX_SESSION_FILES} files"
        return _refuse(command, now, "too_many_files", text, session=session)
    size = session.list_bytes + len(command.file.to_json()) + 1
    if known is None and size > MAX_SESSION_BYTES:
        text = f"file: names and metadata of the session's files would take more than {MAX_SESSION_BYTES} bytes"
        return _refuse(command, now, "too_many_files", text, session=session)
    if known is None:
        session = replace(session, file_count=session.file_count + 1, list_bytes=size)
    event = FileAdded(
        event_id=derived(command.command_id, "added"), session_id=session.id, owner=session.owner,
        caused_by=command.command_id, occurred_at=now, file=command.file, file_count=session.file_count,
    )  # fmt: skip
    return Decision(session, (event,), adds_file=known is None)


def _close(session: Session, command: CloseSession, now: datetime, files: Files) -> Decision:
    fingerprint = derived(command.job.to_json().decode(), "body")
    if session.state is SessionState.CLOSED and session.fingerprint != fingerprint:
        text = f"Deferred Session with ID {session.id} was closed with another body: job {session.job_id}."
        return _refuse(command, now, "other_body", text, session.job_id, session)
    refused = _not_open(session, command, now)
    if refused is not None:
        return refused
    if session.file_count == 0:
        return _refuse(command, now, "empty", f"Deferred Session with ID {session.id} has no files.", session=session)
    job_id = job_of(session.id)
    closed = replace(session, state=SessionState.CLOSED, job_id=job_id, fingerprint=fingerprint)
    common: dict[str, Any] = {"session_id": session.id, "owner": session.owner, "caused_by": command.command_id}
    common |= {"occurred_at": now, "job_id": job_id}
    *earlier, last = parts(files.files(session.id))
    events: list[SessionEvent] = [
        SessionFiles(event_id=derived(session.id, "files", n), part=n, files=part, **common) for n, part in enumerate(earlier)
    ]
    more: dict[str, Any] = {"parts": len(earlier), "file_count": session.file_count} if earlier else {}
    events.append(SessionClosed(event_id=derived(session.id, "closed"), job=command.job, files=last, **common, **more))
    return Decision(closed, tuple(events))


def _erase(session: Session, command: EraseSession, now: datetime, files: Files) -> Decision:
    if session.state is SessionState.CLOSED:
        text = f"Deferred Session with ID {session.id} is closed: erase job {session.job_id}, which was created from it."
        return _refuse(command, now, "closed", text, session.job_id, session)
    tenant = session.owner.tenant_id
    names = sorted({f.blob_name for f in files.files(session.id) if f.blob_name and owns(tenant, f.blob_name)})
    listed = [tuple(names[start : start + NAMES_PER_RECORD]) for start in range(0, max(1, len(names)), NAMES_PER_RECORD)]
    events = tuple(
        SessionErased(
            event_id=derived(command.command_id, "erased", part), session_id=session.id, owner=command.owner,
            caused_by=command.command_id, occurred_at=now, reason=command.reason, part=part, parts=len(listed), blobs=blobs,
        )
        for part, blobs in enumerate(listed)
    )  # fmt: skip
    return Decision(session, events, erases=True)


def parts(files: tuple[FileRef, ...]) -> list[tuple[FileRef, ...]]:
    """The files in as few parts as possible, each small enough for one record. There is always at least one part."""
    found: list[list[FileRef]] = [[]]
    size = 0
    for file in files:
        own = len(file.to_json()) + 1
        if found[-1] and (size + own > MAX_LIST_BYTES or len(found[-1]) >= MAX_PART):
            found.append([])
            size = 0
        found[-1].append(file)
        size += own
    return [tuple(part) for part in found]


def _expire(session: Session | None, now: datetime) -> Decision:
    if session is None or session.state is not SessionState.OPEN or session.expires_at > now:
        return Decision(session)
    event = SessionExpired(
        event_id=derived(session.id, "expired", session.expires_at.isoformat()), session_id=session.id, owner=session.owner,
        caused_by=derived(session.id, "expires"), occurred_at=now, file_count=session.file_count,
    )  # fmt: skip
    return Decision(replace(session, state=SessionState.EXPIRED), (event,))
