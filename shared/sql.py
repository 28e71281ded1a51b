"""Statements in the words of both databases: what SQLite and PostgreSQL spell differently, and nothing else."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from typing import Any

from pydantic_core import to_json
from sqlalchemy import Connection, TextClause, text

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
        """Execute it; on SQLite by the driver itself, which knows `:name` too (`shared/rows.py`)."""
        if is_shared(connection):
            return connection.execute(self.postgresql, values)
        return connection.exec_driver_sql(self.sqlite.text, values if values is not None else {})


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
