"""Erasures that were asked for and are not done: each is tried until nothing is left to erase."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import Connection, Index, text
from sqlmodel import Field, SQLModel

from services.ingest.adapters.store import row_turns

Kind = Literal["job", "session"]
KIND = "erasure"
"""Kind of the turns of these rows."""


class ErasureRequestRow(SQLModel, table=True):
    """A job that is cancelled, if it still runs, and erased; or a session, or the job that it became."""

    __tablename__ = "erasure_request"
    id: str = Field(primary_key=True)
    kind: str
    tenant_id: str
    by_user: str
    reason: str
    at: float
    __table_args__ = (Index("erasure_request_oldest", "tenant_id", "at"),)


MODELS: tuple[type[SQLModel], ...] = (ErasureRequestRow,)
DUE = row_turns.fair(KIND, "erasure_request", "id", "tenant_id", "at")
NEXT = text("SELECT min(w.next_at) FROM row_turn w JOIN erasure_request r ON r.id = w.id WHERE w.kind = 'erasure'")
_ASK = text(
    "INSERT INTO erasure_request (id, kind, tenant_id, by_user, reason, at) VALUES (:i, :k, :t, :u, :r, :at) ON CONFLICT DO NOTHING"
)
_DONE = text("DELETE FROM erasure_request WHERE id = :i")


def ask(connection: Connection, kind: Kind, subject: str, tenant: str, by: str, reason: str, now: float) -> None:
    """Note an erasure. A repeat changes nothing."""
    connection.execute(_ASK, {"i": subject, "k": kind, "t": tenant, "u": by, "r": reason[:1000], "at": now})


def done(connection: Connection, subject: str) -> None:
    """Nothing is left to erase."""
    connection.execute(_DONE, {"i": subject})
    row_turns.clear(connection, KIND, subject)
