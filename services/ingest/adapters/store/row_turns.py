"""When rows of other tables get their next turn: after a failure, or because work on them is paced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text
from sqlmodel import Field, SQLModel

FORGET_S = 7 * 86_400.0
"""Seconds after its time until the turn of a row is deleted that no longer exists."""


class TurnRow(SQLModel, table=True):
    """The next turn of a row. A row without one may be worked on at once."""

    __tablename__ = "row_turn"
    id: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    attempts: int
    next_at: float = Field(index=True)


MODELS: tuple[type[SQLModel], ...] = (TurnRow,)
_SET = text(
    "INSERT INTO row_turn (id, kind, attempts, next_at) VALUES (:i, :k, :n, :at) ON CONFLICT (id, kind) DO UPDATE SET "
    "attempts = excluded.attempts, next_at = excluded.next_at"
)
_CLAIM = text(
    "INSERT INTO row_turn (id, kind, attempts, next_at) VALUES (:i, :k, 0, :until) ON CONFLICT (id, kind) DO UPDATE SET "
    "next_at = excluded.next_at WHERE row_turn.next_at <= :now"
)
_CLEAR = text("DELETE FROM row_turn WHERE id = :i AND kind = :k")
_FORGET = text("DELETE FROM row_turn WHERE next_at < :old")


def fair(kind: str, table: str, key: str, tenant: str, order: str, where: str = "1 = 1") -> Any:
    """A query for rows of `table` whose turn has come: the first of each tenant, then the second of each, and so on.

    The statement takes `now` and `n`; its rows have all columns of the table, and `attempts`.
    """
    return text(
        f"SELECT * FROM (SELECT r.*, coalesce(w.attempts, 0) AS attempts, row_number() OVER (PARTITION BY r.{tenant} ORDER BY r.{order}, "
        f"r.{key}) AS place FROM {table} r LEFT JOIN row_turn w ON w.kind = '{kind}' AND w.id = r.{key} "
        f"WHERE {where} AND coalesce(w.next_at, 0) <= :now) chosen ORDER BY place, {order}, {key} LIMIT :n"
    )


def rows_due(connection: Connection, query: Any, now: float, limit: int = 100) -> Sequence[Any]:
    """The rows of a `fair` query."""
    return connection.execute(query, {"now": now, "n": limit}).all()


def set_turn(connection: Connection, kind: str, row_id: str, attempts: int, next_at: float) -> None:
    """Give a row its next turn at `next_at` (Unix seconds)."""
    connection.execute(_SET, {"k": kind, "i": row_id, "n": attempts, "at": next_at})


def claim(connection: Connection, kind: str, row_id: str, now: float, until: float) -> bool:
    """Take a row's turn until `until`. Returns False when another replica has it."""
    return bool(connection.execute(_CLAIM, {"k": kind, "i": row_id, "now": now, "until": until}).rowcount)


def clear(connection: Connection, kind: str, row_id: str) -> None:
    """The row is done."""
    connection.execute(_CLEAR, {"k": kind, "i": row_id})


def forget_old(connection: Connection, now: float) -> None:
    """Delete turns that nobody took for a week."""
    connection.execute(_FORGET, {"old": now - FORGET_S})
