"""Many rows by one statement: on PostgreSQL a round of the protocol for each row costs server and client more than the row itself.

`INSERT INTO t (a, b) VALUES (:x, :y) …`, `UPDATE t SET a = :x WHERE b = :y` and `DELETE FROM t WHERE a = :x AND b = :y` become one
statement over `unnest` of as many arrays as there are values; the arrays' types are those of the columns. On SQLite, in this
process, the statement is simply run once per row.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, TextClause, text
from sqlalchemy.dialects import postgresql
from sqlmodel import SQLModel

from shared.database.statements import driver, is_shared, raised

_INSERT = re.compile(r"INSERT INTO (?P<table>\w+) \((?P<columns>[\w, ]+)\) VALUES \((?P<values>[\w:, ]+)\)(?P<rest>[^:]*)")
_UPDATE = re.compile(r"UPDATE (?P<table>\w+) SET (?P<set>[\w=:, ]+) WHERE (?P<where>[\w=: ]+)")
_DELETE = re.compile(r"DELETE FROM (?P<table>\w+) WHERE (?P<where>[\w=: ]+)")
_PAIR = re.compile(r"(\w+) = :(\w+)")
_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]


def many(connection: Connection, statement: TextClause, rows: Sequence[dict[str, Any]]) -> None:
    """Execute a statement for every row, in their order. Those that update on a conflict must be given each key once."""
    if not rows:
        return
    if not is_shared(connection):
        # By the driver itself, which knows `:name` too: half the CPU of going through SQLAlchemy's parameters.
        try:
            driver(connection).executemany(statement.text, rows)
        except sqlite3.Error as error:
            raise raised(statement.text, rows, error) from error
    elif len(rows) == 1:
        connection.execute(statement, rows[0])
    else:
        _run(connection, statement, rows)


def together(connection: Connection, parts: Sequence[tuple[TextClause, Sequence[dict[str, Any]]]]) -> None:
    """As `many`, for several statements, of which no two may touch the same row: on PostgreSQL all of them are one."""
    given = [(statement, rows) for statement, rows in parts if rows]
    if len(given) < 2 or not is_shared(connection):
        for statement, rows in given:
            many(connection, statement, rows)
        return
    values: dict[str, Any] = {}
    for number, (statement, rows) in enumerate(given):
        for name in _form(statement.text, f"w{number}_").names:
            values[f"w{number}_{name}"] = [row[name] for row in rows]
    connection.execute(_all_in_one(tuple(statement.text for statement, _ in given)), values)


@lru_cache
def _all_in_one(words: tuple[str, ...]) -> TextClause:
    forms = (f"w{number} AS ({_form(part, f'w{number}_').statement.text})" for number, part in enumerate(words))
    return text(f"WITH {', '.join(forms)} SELECT 1")


def _run(connection: Connection, statement: TextClause, rows: Sequence[dict[str, Any]]) -> None:
    form = _form(statement.text)
    connection.execute(form.statement, {name: [row[name] for row in rows] for name in form.names})


@dataclass(frozen=True, slots=True)
class _Form:
    statement: TextClause
    names: tuple[str, ...]


@lru_cache
def _form(words: str, prefix: str = "") -> _Form:
    if found := _INSERT.fullmatch(words):
        columns, values = (found[part].replace(" ", "").split(",") for part in ("columns", "values"))
        types = {v[1:]: _type(found["table"], c) for c, v in zip(columns, values, strict=True) if v.startswith(":")}
        chosen = ", ".join(f'given."{v[1:]}"' if v.startswith(":") else v for v in values)
        # What the database numbers is numbered in the order given.
        body = f"INSERT INTO {found['table']} ({found['columns']}) SELECT {chosen} FROM {_given(types, prefix)} ORDER BY given.place{found['rest']}"
        return _Form(text(body), tuple(types))
    if found := _UPDATE.fullmatch(words):
        table, changed, which = found["table"], _PAIR.findall(found["set"]), _PAIR.findall(found["where"])
        types = {value: _type(table, column) for column, value in (*changed, *which)}
        assigned = ", ".join(f'{column} = given."{value}"' for column, value in changed)
        return _Form(
            text(f"UPDATE {table} SET {assigned} FROM {_given(types, prefix)} WHERE {_same(table, which)}"), tuple(types)
        )
    if found := _DELETE.fullmatch(words):
        table, which = found["table"], _PAIR.findall(found["where"])
        types = {value: _type(table, column) for column, value in which}
        return _Form(text(f"DELETE FROM {table} USING {_given(types, prefix)} WHERE {_same(table, which)}"), tuple(types))
    raise ValueError(f"not of a form that takes many rows: {words}")


def _given(types: dict[str, str], prefix: str) -> str:
    arrays = ", ".join(f"CAST(:{prefix}{name} AS {kind}[])" for name, kind in types.items())
    names = ", ".join(f'"{name}"' for name in types)
    return f"unnest({arrays}) WITH ORDINALITY AS given({names}, place)"


def _same(table: str, which: Sequence[tuple[str, str]]) -> str:
    return " AND ".join(f'{table}.{column} = given."{value}"' for column, value in which)


def _type(table: str, column: str) -> str:
    kind: str = SQLModel.metadata.tables[table].c[column].type.compile(_DIALECT)
    # The one array that asyncpg knows by itself; others it asks for, once per connection.
    return "text" if kind == "VARCHAR" else kind
