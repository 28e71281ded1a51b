"""The store of schedules, and of workflows that wait to be published, in SQL."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import Connection, text
from sqlmodel import Field, SQLModel

from contracts import FindReferences, PublishWorkflow, ScheduleState
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


class ClaimRow(SQLModel, table=True):
    """The tenant that published a name of a workflow first."""

    __tablename__ = "workflow_claim"
    name: str = Field(primary_key=True)
    tenant_id: str


class DeletedWorkflowRow(SQLModel, table=True):
    """A version that no job begins with. Its text stays as long as jobs are pinned to it."""

    __tablename__ = "workflow_deleted"
    name: str = Field(primary_key=True)
    version: int = Field(primary_key=True)


class QuestionRow(SQLModel, table=True):
    """A question which objects are referred to (`FindReferences`)."""

    __tablename__ = "reference_question"
    command_id: str = Field(primary_key=True)
    body: str


MODELS: tuple[type[SQLModel], ...] = (ScheduleRow, WantedRow, ClaimRow, DeletedWorkflowRow, QuestionRow)
_CLAIM = text("INSERT INTO workflow_claim (name, tenant_id) VALUES (:n, :t) ON CONFLICT DO NOTHING")
_CLAIMED = text("SELECT tenant_id FROM workflow_claim WHERE name = :n")
_ASK = text("INSERT INTO reference_question (command_id, body) VALUES (:id, :body) ON CONFLICT DO NOTHING")
_QUESTIONS = text("SELECT body FROM reference_question ORDER BY command_id LIMIT 1")
_ANSWERED = text("DELETE FROM reference_question WHERE command_id = :id")
_VERSIONS = text(
    "SELECT version FROM workflow w WHERE name = :name AND NOT EXISTS (SELECT 1 FROM workflow_deleted d WHERE d.name = w.name "
    "AND d.version = w.version) ORDER BY version"
)
_MARK = text("INSERT INTO workflow_deleted (name, version) VALUES (:name, :version) ON CONFLICT DO NOTHING")
_SCHEDULES = text("SELECT body FROM schedule")
_PARENTS = text(
    "SELECT name, body FROM workflow w WHERE name <> :name AND body LIKE :named AND NOT EXISTS (SELECT 1 FROM workflow_deleted d "
    "WHERE d.name = w.name AND d.version = w.version)"
)
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

    def claim_workflow(self, name: str, tenant: str) -> bool:
        self.connection.execute(_CLAIM, {"n": name, "t": tenant})
        return bool(self.connection.execute(_CLAIMED, {"n": name}).scalar_one() == tenant)

    def queue_workflow(self, command: PublishWorkflow) -> None:
        self.connection.execute(_WANT, {"id": command.command_id, "body": command.to_json().decode()})

    def queued_workflows(self) -> Sequence[PublishWorkflow]:
        return [PublishWorkflow.read(body) for body in self.connection.execute(_WANTED).scalars()]

    def unqueue_workflow(self, command_id: str) -> None:
        self.connection.execute(_GOT, {"id": command_id})

    def live_versions(self, name: str) -> Sequence[int]:
        return list(self.connection.execute(_VERSIONS, {"name": name}).scalars())

    def mark_deleted(self, name: str, versions: Sequence[int]) -> None:
        if versions:
            self.connection.execute(_MARK, [{"name": name, "version": version} for version in versions])

    def user_of(self, name: str) -> str | None:
        for body in self.connection.execute(_SCHEDULES).scalars():
            state = ScheduleState.read(body)
            if state.job.workflow == name and not state.deleted:
                return f"schedule {state.schedule_id}"
        for row in self.connection.execute(_PARENTS, {"name": name, "named": f'%"{name}"%'}):
            steps = [*json.loads(row.body).get("steps", ()), *json.loads(row.body).get("rescue", ())]
            if any((step.get("job") or {}).get("workflow") == name for step in steps):
                return f"workflow {row.name}"
        return None

    def ask_references(self, command: FindReferences) -> None:
        self.connection.execute(_ASK, {"id": command.command_id, "body": command.to_json().decode()})

    def reference_question(self) -> FindReferences | None:
        body = self.connection.execute(_QUESTIONS).scalar()
        return None if body is None else FindReferences.read(body)

    def answered(self, command_id: str) -> None:
        self.connection.execute(_ANSWERED, {"id": command_id})

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
