"""Attempts to sign in, by pair of address and user name: failures in a row, the delay that they cost, and the last success.

The delay belongs to the pair, so that nobody can keep a user out from another address.
"""

from __future__ import annotations

from sqlalchemy import Connection, text
from sqlmodel import Field, SQLModel

from services.ingest.core.signin_delay import delay_after
from shared.web.key_format import key_hash

FAILURES_KEPT_S = 86_400
KNOWN_S = 30 * 86_400
"""How long an address counts as known for a user after a success."""


class SigninRow(SQLModel, table=True):
    """A pair. The name is kept as a hash: people type passwords into the wrong field. Times in Unix seconds."""

    __tablename__ = "signin"
    address: str = Field(primary_key=True)
    name_hash: str = Field(primary_key=True)
    failures: int
    blocked_until: float
    succeeded_at: float | None = None
    at: float = Field(index=True)


MODELS: tuple[type[SQLModel], ...] = (SigninRow,)
_OLD = text("DELETE FROM signin WHERE at < :old AND (succeeded_at IS NULL OR succeeded_at < :known)")
_KNOWN = text("SELECT 1 FROM signin WHERE address = :a AND name_hash = :h AND succeeded_at > :known")
_ATTEMPT = text(
    "INSERT INTO signin (address, name_hash, failures, blocked_until, at) VALUES (:a, :h, 1, 0, :now) "
    "ON CONFLICT (address, name_hash) DO UPDATE SET failures = signin.failures + 1, at = excluded.at "
    "WHERE signin.blocked_until <= excluded.at RETURNING failures"
)
_DELAY = text("UPDATE signin SET blocked_until = :until WHERE address = :a AND name_hash = :h")
_UNTIL = text("SELECT blocked_until FROM signin WHERE address = :a AND name_hash = :h")
_SUCCESS = text(
    "UPDATE signin SET failures = 0, blocked_until = 0, succeeded_at = :now, at = :now WHERE address = :a AND name_hash = :h"
)


def is_known(connection: Connection, address: str, user_name: str, now: float) -> bool:
    """True when the user signed in from this address within the last 30 days."""
    values = {"a": address, "h": key_hash(user_name), "known": now - KNOWN_S}
    return connection.execute(_KNOWN, values).first() is not None


def begin_attempt(connection: Connection, address: str, user_name: str, now: float) -> float:
    """Count an attempt as failed before its password is checked, so that attempts at once count too. Returns 0, or the seconds
    that the pair still has to wait: then the password must not be checked."""
    pair = {"a": address, "h": key_hash(user_name)}
    connection.execute(_OLD, {"old": now - FAILURES_KEPT_S, "known": now - KNOWN_S})
    failures = connection.execute(_ATTEMPT, {**pair, "now": now}).scalar()
    if failures is None:
        return max(1.0, float(connection.execute(_UNTIL, pair).scalar() or 0) - now)
    connection.execute(_DELAY, {**pair, "until": now + delay_after(failures)})
    return 0.0


def succeeded(connection: Connection, address: str, user_name: str, now: float) -> None:
    """Forget the pair's failures, and remember the success."""
    connection.execute(_SUCCESS, {"a": address, "h": key_hash(user_name), "now": now})
