"""Exactly once in your own database: your rows and the ids of their events in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from stageline_kit.consumer import Batch, Event, Gap

TABLES = (
    "CREATE TABLE IF NOT EXISTS stageline_seen (id VARCHAR(250) PRIMARY KEY)",
    "CREATE TABLE IF NOT EXISTS stageline_sequence (job_id VARCHAR(200) PRIMARY KEY, sequence INTEGER NOT NULL)",
)


class Inbox:
    """Over a DB-API connection of yours (sqlite3, psycopg, …) that nothing else uses at the same time.

    `mark` is the driver's placeholder: `?` for sqlite3, `%s` for psycopg. Missing tables are created.
    """

    def __init__(self, connection: Any, mark: str = "?") -> None:
        self.connection = connection
        self.mark = mark
        for statement in TABLES:
            self._execute(statement)
        connection.commit()
        self._found: list[Gap] = []
        self.gaps: list[Gap] = []
        """Gaps found so far: events that the topic no longer held."""

    def _execute(self, statement: str, values: Sequence[Any] = ()) -> Any:
        cursor = self.connection.cursor()
        cursor.execute(statement.replace("?", self.mark), values)
        return cursor

    @contextmanager
    def transaction(self, batch: Batch) -> Iterator[list[Event]]:
        """Context manager: yields the events of a batch that are new.

        What you write inside commits together with their ids, or not at all. Then `await batch.commit()`: if that is lost,
        the same events are redelivered and left out.
        """
        self._found = []
        try:
            yield [event for event in batch.events if self._is_new(event)]
            self.connection.commit()
            self.gaps += self._found
        except BaseException:
            self.connection.rollback()
            raise

    def _is_new(self, event: Event) -> bool:
        statement = "INSERT INTO stageline_seen (id) SELECT ? WHERE NOT EXISTS (SELECT 1 FROM stageline_seen WHERE id = ?)"
        if self._execute(statement, (event.id, event.id)).rowcount == 0:
            return False
        if event.sequence is not None and event.job_id is not None:
            self._note_sequence(event.job_id, event.sequence)
        return True

    def _note_sequence(self, job_id: str, sequence: int) -> None:
        row = self._execute("SELECT sequence FROM stageline_sequence WHERE job_id = ?", (job_id,)).fetchone()
        if row is None:
            self._execute("INSERT INTO stageline_sequence (job_id, sequence) VALUES (?, ?)", (job_id, sequence))
        else:
            self._execute("UPDATE stageline_sequence SET sequence = ? WHERE job_id = ?", (sequence, job_id))
        expected = 1 if row is None else row[0] + 1
        if sequence > expected:
            self._found.append(Gap(job_id, expected, sequence))
