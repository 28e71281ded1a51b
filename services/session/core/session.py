"""A deferred session as a frozen value, and the decision about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from contracts import Message, Tenancy
from contracts.identity import derived


class SessionState(StrEnum):
    """`open` accepts files; `closed` and `expired` are final."""

    OPEN = "open"
    CLOSED = "closed"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Session:
    """A session without its files. `fingerprint` is the hash of the request that closed it."""

    id: str
    owner: Tenancy
    state: SessionState
    created_at: datetime
    expires_at: datetime
    file_count: int = 0
    job_id: str | None = None
    fingerprint: str | None = None
    list_bytes: int = 0
    """Size of the file list as JSON, in bytes."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The new session, the messages to publish, whether the command's file must be stored, and whether the session is deleted."""

    session: Session | None
    outputs: tuple[Message, ...] = ()
    adds_file: bool = False
    erases: bool = False


def job_of(session_id: str) -> str:
    """The job id of a session. It is derived, so that closing a session twice cannot create two jobs."""
    return derived(session_id, "job")
