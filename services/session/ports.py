"""The store that the session service needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from contracts import FileRef
from services.session.core.session import Session


class SessionStore(Protocol):
    """Sessions and their files, read and written in the running transaction."""

    def session(self, session_id: str) -> Session | None:
        """The session, or None. Locks its row until the transaction ends."""
        ...

    def file(self, session_id: str, file_id: str) -> FileRef | None:
        """One file of the session, or None."""
        ...

    def files(self, session_id: str) -> tuple[FileRef, ...]:
        """The session's files, in the order in which they were added."""
        ...

    def save(self, session: Session) -> None:
        """Insert or update the session, without its files."""
        ...

    def add_file(self, session_id: str, position: int, file: FileRef) -> None:
        """Add a file at `position`, counted from 1."""
        ...

    def erase(self, session_id: str) -> None:
        """Delete a session and its files."""
        ...

    def erase_file(self, session_id: str, file_id: str) -> None:
        """Delete one file of a session."""
        ...

    def due(self, now: float, limit: int) -> Sequence[str]:
        """Ids of at most `limit` open sessions that expire at or before `now` (Unix seconds)."""
        ...
