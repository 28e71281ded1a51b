"""Statements in the words of both databases: what SQLite and PostgreSQL spell differently, and nothing else."""

from __future__ import annotations

import re
import sqlite3
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic_core import to_json
from sqlalchemy import Connection, TextClause, text
from sqlalchemy.exc import DBAPIError

_LIST = re.compile(r"\[(\w+)\]")
_PAIRS = re.compile(r"\[\[(\w+)\]\]")
_LOCK = re.compile(r"\s*/\*(.*?)\*/")


class Statement:
    """One statement for both dialects, compiled once for each.

    `[name]` is a table with the column `value` of the texts in the JSON list bound to `name`; `[[name]]` the same with JSON
    values; `/* … */` is added on PostgreSQL alone (row locks: SQLite has one writer anyway).
    """

    def __init__(self, words: str) -> None:
        lite = _PAIRS.sub(r"json_each(:\1)", _LOCK.sub("", words))
        post = _PAIRS.sub(r"json_array_elements(CAST(:\1 AS json)) AS t(value)", _LOCK.sub(r" \1", words))
        self.sqlite = text(_LIST.sub(r"json_each(:\1)", lite))
        self.postgresql = text(_LIST.sub(r"json_array_elements_text(CAST(:\1 AS json)) AS t(value)", post))

    def on(self, connection: Connection) -> TextClause:
        """The statement for this connection's database."""
        return self.postgresql if is_shared(connection) else self.sqlite

    def run(self, connection: Connection, values: Any = None) -> Any:
        """Execute it, for a result whose rows have names; on SQLite without compiling, for its driver knows `:name` too."""
        if is_shared(connection):
            return connection.execute(self.postgresql, values)
        return connection.exec_driver_sql(self.sqlite.text, values if values is not None else {})

    def rows(self, connection: Connection, values: Any = None) -> Sequence[Any]:
        """Execute it, for its rows as tuples. On SQLite without SQLAlchemy in between, which takes longer than the statement: a
        transaction for one record has a dozen of them. Raises what SQLAlchemy does."""
        if is_shared(connection):
            found = connection.execute(self.postgresql, values)
            return found.all() if found.returns_rows else ()
        try:
            return driver(connection).execute(self.sqlite.text, values if values is not None else {}).fetchall()
        except sqlite3.Error as error:
            raise raised(self.sqlite.text, values, error) from error


def driver(connection: Connection) -> sqlite3.Connection:
    """What SQLAlchemy's connection to a SQLite database stands on."""
    own: Any = connection.connection.driver_connection
    return own  # type: ignore[no-any-return]


def raised(words: str, values: Any, error: sqlite3.Error) -> BaseException:
    """The driver's error as SQLAlchemy raises it, which is what callers look for."""
    return DBAPIError.instance(words, values, error, sqlite3.Error, ismulti=isinstance(values, list))


def as_list(values: Iterable[Any]) -> str:
    """The values (texts, or tuples of texts) as what `[name]` and `[[name]]` are bound to."""
    return to_json(list(values)).decode()


def is_shared(connection: Connection) -> bool:
    """True when other replicas may write to the same database."""
    return connection.dialect.name == "postgresql"


_EXCLUSIVE = text("SELECT pg_advisory_xact_lock(hashtext(current_schema()), CAST(:name AS int))")


def exclusive(connection: Connection, name: str) -> None:
    """Until the transaction ends, no other replica of the service is in the section of this name."""
    if is_shared(connection):
        connection.execute(_EXCLUSIVE, {"name": zlib.crc32(name.encode()) & 0x7FFFFFFF})
