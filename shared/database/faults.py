"""What an error of a database means: wait for it, dead-letter a value, or stop, because no retry can help."""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import (
    DatabaseError,
    DBAPIError,
    InterfaceError,
    OperationalError,
    PendingRollbackError,
    ResourceClosedError,
)

from shared.errors import DeadLetter, Outcome, Retry, Stop

UNAVAILABLE = "store_unavailable"
"""Code of the `Retry` for a database that is locked, read-only, full or away."""
NOT_TEXT = ("22021", "22P05")
"""SQLSTATE of a text that PostgreSQL cannot store (U+0000), plain and in JSON."""
UNFIT = ("22", "23502", "23514")
"""SQLSTATE or its class of values that PostgreSQL never accepts: out of range, missing, against a rule."""
CONFLICT = ("40",)
"""SQLSTATE class of a transaction that lost against another one, in a deadlock for example: the next try may win."""
OUTAGE = ("08", "25", "53", "55", "57", "58")
"""SQLSTATE classes of an outage: connection, state of the transaction or read-only, resources, lock not available, operator, system."""
CONSTRAINT = ("23",)
LOGIN = ("28",)
"""SQLSTATE class of a user that the server does not let in. A restart reads the password's file again."""
MISFIT = ("0A", "3D", "3F", "42", "XX")
"""SQLSTATE classes that no retry cures: a missing table, column, schema or right, a statement that is wrong, damaged data."""
_BUGS_OF_SQLITE = ("no such table", "no such column", "no such index", "no such function", "has no column", "already exists")
"""Not syntax errors: what a user searches for may be one to the full-text index."""
_DAMAGE_OF_SQLITE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class ConstraintViolated(Stop):
    """A row that the database refuses beside its other rows. Two replicas may have written the same one; then a second try succeeds."""


def concerns_transaction(error: BaseException) -> bool:
    """True for an error after which the whole transaction is void, so that it is no fault of the record in hand.

    A handler asks nothing but its database, so a time-out or a broken connection is the database's.
    """
    if isinstance(error, (Outcome, OperationalError, PendingRollbackError, ResourceClosedError, OSError, TimeoutError)):
        return True
    # An SQLSTATE means that PostgreSQL aborted the transaction.
    return getattr(getattr(error, "orig", None), "sqlstate", None) is not None or _of_asyncpg(error)


def breaks_connection(error: BaseException) -> bool:
    """True for an error after which PostgreSQL's connection must not be used again."""
    if not isinstance(error, Exception):
        return True  # cancelled, within a statement perhaps
    broken = (PendingRollbackError, ResourceClosedError, InterfaceError, OSError, TimeoutError)
    return (
        isinstance(error, broken)
        or getattr(error, "connection_invalidated", False)
        or type(error).__module__.startswith("asyncpg.")
    )


def _of_asyncpg(error: BaseException) -> bool:
    """True for errors of PostgreSQL's client library, also those that SQLAlchemy does not know (`cannot switch to state …`)."""
    orig = getattr(error, "orig", None)
    return any(type(e).__module__.startswith("asyncpg.") for e in (error, getattr(orig, "__cause__", None)) if e is not None)


def meaning(error: BaseException) -> Outcome | None:
    """The outcome that stands for a database's error; None for an error that is none of a database's."""
    if isinstance(error, DBAPIError):
        return _of_sqlite(error) if isinstance(error.orig, sqlite3.Error) else _of_postgres(error)
    if isinstance(error, (OSError, TimeoutError)):
        return Retry(UNAVAILABLE, repr(error))
    if isinstance(error, (PendingRollbackError, ResourceClosedError)) or _of_asyncpg(error):
        # The process was stopped within a transaction, or the connection broke in it. Another connection is as good as new.
        return Retry("connection_broken", repr(error)[:500])
    return None


def _of_postgres(error: DBAPIError) -> Outcome | None:
    state = str(getattr(error.orig, "sqlstate", None) or "")
    cause = getattr(error.orig, "__cause__", None)
    # For a deadlock the detail names the sessions that waited for each other.
    detail = getattr(cause, "detail", None)
    said = f"{error.orig}{f': {detail}' if detail else ''}"[:500]
    if state in NOT_TEXT:
        return DeadLetter("invalid_text", "a text holds the character U+0000, which cannot be kept")
    if state.startswith(UNFIT) or (not state and isinstance(cause, ValueError)):
        return DeadLetter("invalid_value", f"a value cannot be kept: {error.orig}"[:500])
    if state.startswith(CONFLICT):
        return Retry("store_conflict", said)
    if state.startswith(OUTAGE) or error.connection_invalidated:
        return Retry(UNAVAILABLE, said)
    if state.startswith(CONSTRAINT):
        return ConstraintViolated("constraint_violated", f"the database refuses a row: {said}")
    if state.startswith(LOGIN):
        return Stop("database_login", f"the database does not let this user in: {said}")
    if state.startswith(MISFIT):
        return Stop("database_misfit", f"the database does not fit this release: {said}")
    if isinstance(error, (OperationalError, InterfaceError)):
        return Retry(UNAVAILABLE, said)
    return None


def _of_sqlite(error: DBAPIError) -> Outcome | None:
    said = str(error.orig)
    code = getattr(error.orig, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if primary in _DAMAGE_OF_SQLITE:
        return Stop("database_damaged", f"the database file is damaged: {said}")
    if primary == sqlite3.SQLITE_CONSTRAINT:
        return ConstraintViolated("constraint_violated", f"the database refuses a row: {said}")
    if primary == sqlite3.SQLITE_ERROR and any(sign in said for sign in _BUGS_OF_SQLITE):
        return Stop("database_misfit", f"the database does not fit this release: {said}")
    if primary == sqlite3.SQLITE_ERROR:
        return None  # a wrong statement, which is no outage
    if isinstance(error, OperationalError) or (isinstance(error, DatabaseError) and primary in _OUTAGES_OF_SQLITE):
        return Retry(UNAVAILABLE, said)
    return None


_OUTAGES_OF_SQLITE = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_IOERR,
)
