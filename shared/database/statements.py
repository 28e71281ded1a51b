"""Statements for both databases: what SQLite and PostgreSQL spell differently."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic_core import to_json
from sqlalchemy import Connection, text

_LIST = re.compile(r"\[(\w+)\]")
_PAIRS = re.compile(r"\[\[(\w+)\]\]")
_LOCK = re.compile(r"\s*/\*(.*?)\*/")


class Statement:
    """One statement for both databases.

    `[name]` stands for a table whose column `value` has the texts of the JSON list bound to `name`; `[[name]]` for the same with
    JSON values. `/* … */` is added on PostgreSQL alone, for row locks: SQLite has one writer.
    """

    def __init__(self, words: str) -> None:
        lite = _PAIRS.sub(r"json_each(:\1)", _LOCK.sub("", words))
        post = _PAIRS.sub(r"json_array_elements(CAST(:\1 AS json)) AS t(value)", _LOCK.sub(r" \1", words))
        self.sqlite = _LIST.sub(r"json_each(:\1)", lite)
        self.postgresql = text(_LIST.sub(r"json_array_elements_text(CAST(:\1 AS json)) AS t(value)", post))

    def run(self, connection: Connection, values: Any = None) -> Any:
        """Execute it; returns SQLAlchemy's result. SQLite knows `:name` by itself, so there it is not compiled."""
        if is_shared(connection):
            return connection.execute(self.postgresql, values)
        return connection.exec_driver_sql(self.sqlite, values if values is not None else {})

    def rows(self, connection: Connection, values: Any = None) -> Sequence[Any]:
        """Execute it; returns the rows, none for a statement that has none to return."""
        found = self.run(connection, values)
        return found.all() if found.returns_rows else ()


def as_list(values: Iterable[Any]) -> str:
    """JSON list of texts, or of tuples of texts: the value of `[name]`, or of `[[name]]`."""
    return to_json(list(values)).decode()


def is_shared(connection: Connection) -> bool:
    """True when other replicas may write to the same database."""
    return connection.dialect.name == "postgresql"


_EXCLUSIVE = text("SELECT pg_advisory_xact_lock(hashtext(current_schema()), CAST(:name AS int))")


def exclusive(connection: Connection, name: str) -> None:
    """Hold the section `name` until the transaction ends: other replicas of the service wait."""
    if is_shared(connection):
        connection.execute(_EXCLUSIVE, {"name": zlib.crc32(name.encode()) & 0x7FFFFFFF})
