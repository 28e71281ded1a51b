"""A deferred session as a frozen value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from contracts import Message, Tenancy
from contracts.identity import derived


class SessionState(StrEnum):
    """`open` takes files; the others are ends."""

    OPEN = "open"
    CLOSED = "closed"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Session:
    """Header of a session; its files are rows of their own. `fingerprint` is the body that closed it."""

    id: str
    owner: Tenancy
    state: SessionState
    created_at: datetime
    expires_at: datetime
    file_count: int = 0
    job_id: str | None = None
    fingerprint: str | None = None
    list_bytes: int = 0
    """Size of its file list as JSON."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The new session, whether a file row must be added, and what to publish."""

    session: Session | None
    outputs: tuple[Message, ...] = ()
    adds_file: bool = False


def job_of(session_id: str) -> str:
    """The one job that a session can become: derived, so that even two closings could not make two."""
    return derived(session_id, "job")
