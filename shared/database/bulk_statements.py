"""Statements that write many rows, written out for each database.

SQLite runs in this process: its statement runs once for each row. On PostgreSQL every row would cost a round of the
protocol, so there one statement takes an array for each value and unnests them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, text

from shared.database.statements import is_shared

Rows = Sequence[dict[str, Any]]
"""The values of each row by name."""


class BulkStatement:
    """One write of many rows. Both statements name their values `:name`; on PostgreSQL each is the array of all rows' values."""

    def __init__(self, sqlite: str, postgresql: str) -> None:
        self.sqlite = sqlite
        self.postgresql = text(postgresql)

    def run(self, connection: Connection, rows: Rows) -> None:
        """Write `rows` in their order. A statement that updates on a conflict must get each key once."""
        if not rows:
            return
        if is_shared(connection):
            connection.execute(self.postgresql, arrays(rows, rows[0]))
        else:
            run_for_each(connection, self.sqlite, rows)


def arrays(rows: Rows, names: Iterable[str], prefix: str = "") -> dict[str, list[Any]]:
    """The values that a statement on PostgreSQL takes: for each name, `prefix` and the name → that value of all rows."""
    return {prefix + name: [row[name] for row in rows] for name in names}


def run_for_each(connection: Connection, statement: str, rows: Rows) -> None:
    """Run a statement on SQLite once for each row, in their order."""
    if rows:
        connection.exec_driver_sql(statement, list(rows))
