"""The store of schedules, and of workflows that wait to be published, in SQL."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, text
from sqlmodel import Field, SQLModel

from contracts import PublishWorkflow, ScheduleState
from shared.database.statements import Statement


class ScheduleRow(SQLModel, table=True):
    """A schedule; `next_at` in Unix seconds is its timer."""

    __tablename__ = "schedule"
    id: str = Field(primary_key=True)
    body: str
    next_at: float | None = None


class WantedRow(SQLModel, table=True):
    """A workflow whose topics have yet to be made."""

    __tablename__ = "workflow_wanted"
    command_id: str = Field(primary_key=True)
    body: str


MODELS: tuple[type[SQLModel], ...] = (ScheduleRow, WantedRow)
_WANT = text("INSERT INTO workflow_wanted (command_id, body) VALUES (:id, :body) ON CONFLICT DO NOTHING")
_WANTED = text("SELECT body FROM workflow_wanted ORDER BY command_id LIMIT 20")
_GOT = text("DELETE FROM workflow_wanted WHERE command_id = :id")
_SCHEDULE = text("SELECT body FROM schedule WHERE id = :id")
_KEEP = text(
    "INSERT INTO schedule (id, body, next_at) VALUES (:id, :body, :at) "
    "ON CONFLICT (id) DO UPDATE SET body = excluded.body, next_at = excluded.next_at"
)
_DUE = Statement("SELECT body FROM schedule WHERE next_at <= :now ORDER BY next_at LIMIT :limit /*FOR UPDATE SKIP LOCKED*/")
_NEXT = text("SELECT min(next_at) FROM schedule WHERE next_at IS NOT NULL")


class SqlSteeringStore:
    """`SteeringStore` on one connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def queue_workflow(self, command: PublishWorkflow) -> None:
        self.connection.execute(_WANT, {"id": command.command_id, "body": command.to_json().decode()})

    def queued_workflows(self) -> Sequence[PublishWorkflow]:
        return [PublishWorkflow.read(body) for body in self.connection.execute(_WANTED).scalars()]

    def unqueue_workflow(self, command_id: str) -> None:
        self.connection.execute(_GOT, {"id": command_id})

    def schedule(self, schedule_id: str) -> ScheduleState | None:
        body = self.connection.execute(_SCHEDULE, {"id": schedule_id}).scalar()
        return None if body is None else ScheduleState.read(body)

    def save_schedule(self, state: ScheduleState) -> None:
        at = state.next_at.timestamp() if state.next_at else None
        self.connection.execute(_KEEP, {"id": state.schedule_id, "body": state.to_json().decode(), "at": at})

    def due_schedules(self, now: float, limit: int) -> Sequence[ScheduleState]:
        return [ScheduleState.read(body) for body in _DUE.run(self.connection, {"now": now, "limit": limit}).scalars()]


def next_schedule(connection: Connection) -> float | None:
    """Unix time of the earliest schedule, or None."""
    value: float | None = connection.execute(_NEXT).scalar()
    return value
