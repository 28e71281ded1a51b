"""The session store on SQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection, Index, func, select
from sqlmodel import Field, SQLModel

from contracts import FileRef, Tenancy
from services.session.core.session import Session, SessionState
from shared.database.columns import only_where
from shared.database.store import table_of


class SessionRow(SQLModel, table=True):
    """A session. Times are in Unix seconds."""

    __tablename__ = "session"
    id: str = Field(primary_key=True)
    owner: str
    state: str
    created_at: float
    expires_at: float
    file_count: int
    job_id: str | None = None
    fingerprint: str | None = None
    list_bytes: int = 0
    __table_args__ = (Index("session_due", "expires_at", **only_where("state = 'open'")),)


class SessionFileRow(SQLModel, table=True):
    """One file of a session; `body` is its `FileRef` as JSON."""

    __tablename__ = "session_file"
    session_id: str = Field(primary_key=True)
    file_id: str = Field(primary_key=True)
    position: int
    body: str


MODELS: tuple[type[SQLModel], ...] = (SessionRow, SessionFileRow)
SESSION = table_of(SessionRow)
FILE = table_of(SessionFileRow)


class SqlSessionStore:
    """A `SessionStore` on one connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def session(self, session_id: str) -> Session | None:
        row = self.connection.execute(select(SESSION).where(SESSION.c.id == session_id).with_for_update()).first()
        if row is None:
            return None
        return Session(
            row.id, Tenancy.model_validate_json(row.owner), SessionState(row.state),
            datetime.fromtimestamp(row.created_at, UTC), datetime.fromtimestamp(row.expires_at, UTC), row.file_count,
            row.job_id, row.fingerprint,
            row.list_bytes,
        )  # fmt: skip

    def file(self, session_id: str, file_id: str) -> FileRef | None:
        query = select(FILE.c.body).where(FILE.c.session_id == session_id, FILE.c.file_id == file_id)
        body = self.connection.execute(query).scalar()
        return None if body is None else FileRef.model_validate_json(body)

    def files(self, session_id: str) -> tuple[FileRef, ...]:
        query = select(FILE.c.body).where(FILE.c.session_id == session_id).order_by(FILE.c.position)
        return tuple(FileRef.model_validate_json(body) for body in self.connection.execute(query).scalars())

    def save(self, session: Session) -> None:
        values = {
            "id": session.id, "owner": session.owner.to_json().decode(), "state": session.state.value,
            "created_at": session.created_at.timestamp(), "expires_at": session.expires_at.timestamp(),
            "file_count": session.file_count, "job_id": session.job_id, "fingerprint": session.fingerprint, "list_bytes": session.list_bytes,
        }  # fmt: skip
        changed = self.connection.execute(SESSION.update().where(SESSION.c.id == session.id).values(values)).rowcount
        if not changed:
            self.connection.execute(SESSION.insert(), values)

    def add_file(self, session_id: str, position: int, file: FileRef) -> None:
        values = {
            "session_id": session_id,
            "file_id": file.file_id,
            "position": position,
            "body": file.to_json().decode(),
        }
        self.connection.execute(FILE.insert(), values)

    def erase(self, session_id: str) -> None:
        self.connection.execute(FILE.delete().where(FILE.c.session_id == session_id))
        self.connection.execute(SESSION.delete().where(SESSION.c.id == session_id))

    def erase_file(self, session_id: str, file_id: str) -> None:
        self.connection.execute(FILE.delete().where(FILE.c.session_id == session_id, FILE.c.file_id == file_id))

    def due(self, now: float, limit: int) -> Sequence[str]:
        query = select(SESSION.c.id).where(SESSION.c.state == "open", SESSION.c.expires_at <= now).limit(limit)
        query = query.with_for_update(skip_locked=True)
        return self.connection.execute(query).scalars().all()


def next_due(connection: Connection) -> float | None:
    """Unix time at which the next open session expires, or None."""
    value: float | None = connection.execute(select(func.min(SESSION.c.expires_at)).where(SESSION.c.state == "open")).scalar()
    return value
