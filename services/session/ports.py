"""What the session service needs from a store, inside one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from contracts import FileRef
from services.session.core.session import Session


class SessionStore(Protocol):
    """Sessions and their files within the running transaction."""

    def session(self, session_id: str) -> Session | None:
        """The session, or None."""
        ...

    def file(self, session_id: str, file_id: str) -> FileRef | None:
        """One file of the session, or None."""
        ...

    def files(self, session_id: str) -> tuple[FileRef, ...]:
        """Its files in the order they were added."""
        ...

    def save(self, session: Session) -> None:
        """Insert or update the header."""
        ...

    def add_file(self, session_id: str, position: int, file: FileRef) -> None:
        """Append a file."""
        ...

    def erase(self, session_id: str) -> None:
        """Forget a session and its files."""
        ...

    def due(self, now: float, limit: int) -> Sequence[str]:
        """Open sessions whose time is over."""
        ...
