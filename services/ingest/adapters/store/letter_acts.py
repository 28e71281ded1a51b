"""What operators did with dead letters. The letters themselves stay on their topics, for 30 days."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, text
from sqlmodel import Field, SQLModel

from contracts.identity import PLATFORM_TENANT
from services.ingest.adapters.store.audit import Entry, add_entries
from services.ingest.core.job_view import text as shown_time
from shared.web.api_keys import Principal

KEPT_S = 60 * 86_400
"""Seconds after which an act is forgotten: its letter is gone by then."""


class LetterActRow(SQLModel, table=True):
    """The newest act on a letter. `done` is false between the decision to send a copy and Kafka's confirmation."""

    __tablename__ = "letter_act"
    letter_id: str = Field(primary_key=True)
    verb: str
    at: float = Field(index=True)
    by: str
    reason: str
    done: bool


MODELS: tuple[type[SQLModel], ...] = (LetterActRow,)
_ALL = text("SELECT letter_id, verb, at, by, reason FROM letter_act WHERE done")
_ONE = text("SELECT letter_id, verb, at, by, reason FROM letter_act WHERE done AND letter_id = :id")
_BEGIN = text(
    "INSERT INTO letter_act (letter_id, verb, at, by, reason, done) VALUES (:id, :verb, :at, :by, :reason, :done) "
    "ON CONFLICT (letter_id) DO UPDATE SET verb = excluded.verb, at = excluded.at, by = excluded.by, reason = excluded.reason, "
    "done = excluded.done WHERE letter_act.done = :again OR NOT letter_act.done"
)
_OLD = text("DELETE FROM letter_act WHERE at < :old")


def acts(connection: Connection) -> dict[str, dict[str, Any]]:
    """Letter → what was done with it."""
    return {row.letter_id: _shown(row) for row in connection.execute(_ALL)}


def act_on(connection: Connection, letter_id: str) -> dict[str, Any] | None:
    """What was done with a letter; None: nothing."""
    row = connection.execute(_ONE, {"id": letter_id}).first()
    return None if row is None else _shown(row)


def note(
    connection: Connection,
    letter_id: str,
    verb: str,
    who: Principal,
    at: float,
    reason: str,
    *,
    done: bool,
    again: bool,
    message: str = "",
) -> bool:
    """Write an act; once it is `done`, enter it into the audit. False where another act is done already, unless `again`."""
    values = {
        "id": letter_id,
        "verb": verb,
        "at": at,
        "by": who.tenancy.user_name,
        "reason": reason,
        "done": done,
        "again": again,
    }
    if not connection.execute(_BEGIN, values).rowcount:
        return False
    connection.execute(_OLD, {"old": at - KEPT_S})
    if done:
        line = Entry(
            PLATFORM_TENANT, at, f"letter.{verb}", letter_id, who.tenancy.user_name, message=message or None, reason=reason
        )
        add_entries(connection, [line])
    return True


def _shown(row: Any) -> dict[str, Any]:
    at = shown_time(datetime.fromtimestamp(row.at, UTC))
    return {"verb": row.verb, "at": at, "by": row.by, "reason": row.reason}
