"""Published workflows in SQL, with who published them and which are deleted."""

from __future__ import annotations

import json

from sqlalchemy import Connection, text
from sqlmodel import Field, SQLModel

from contracts.parameters import check_definition
from services.job_orchestrator.adapters.recent_jobs import RecentJobs
from services.job_orchestrator.core.workflow import Workflow
from shared import clock
from shared.errors import Stop


class WorkflowRow(SQLModel, table=True):
    """A published workflow version, never changed."""

    __tablename__ = "workflow"
    name: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    body: str


class OwnerRow(SQLModel, table=True):
    """Who published a version, as in `WorkflowPublished`. A table of its own: earlier releases write rows of three columns above."""

    __tablename__ = "workflow_owner"
    name: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    owner: str


MODELS: tuple[type[SQLModel], ...] = (WorkflowRow, OwnerRow)
_OWNED = text("INSERT INTO workflow_owner (name, version, owner) VALUES (:name, :version, :owner) ON CONFLICT DO NOTHING")
_IS_DELETED = text("SELECT 1 FROM workflow_deleted WHERE name = :name AND version = :version")
_DELETED = text("SELECT name, version FROM workflow_deleted")
DELETED_STALE_S = 1.0


class Catalog:
    """Published workflows of this process, each read once because a version never changes, and its recent jobs."""

    def __init__(self) -> None:
        self.versions: dict[tuple[str, int], Workflow] = {}
        self.recent = RecentJobs()
        self.deleted: frozenset[tuple[str, int]] = frozenset()
        """Versions that no job begins with."""
        self._looked = 0.0

    def publish(self, connection: Connection, workflow: Workflow, owner: str | None = None) -> None:
        """Publish a version, also repeatedly; the first known owner stays.

        Raises `Stop` for a different workflow under a published version, and for a parameter that a step of a new version may not have.
        """
        definition = workflow.model_dump(mode="json", exclude_none=True)
        body = json.dumps(definition, sort_keys=True)
        key = {"name": workflow.name, "version": workflow.version}
        if connection.execute(_IS_DELETED, key).first() is not None:
            raise Stop("workflow_deleted", f"{workflow.ref} was deleted; give it a new version")
        known = connection.execute(text("SELECT body FROM workflow WHERE name = :name AND version = :version"), key).scalar()
        if known is None:
            fault = check_definition(definition, True)
            if fault is not None:
                raise Stop("invalid_workflow", f"{workflow.ref}: {fault}")
            connection.execute(text("INSERT INTO workflow VALUES (:name, :version, :body)"), {**key, "body": body})
        elif Workflow.model_validate_json(known) != workflow:
            # Compared as workflows, not as texts: a release that knows more fields writes another text for the same workflow.
            raise Stop("workflow_changed", f"{workflow.ref} is published and cannot change; give it a new version")
        if owner is not None:
            connection.execute(_OWNED, {**key, "owner": owner})
        self.versions[workflow.name, workflow.version] = workflow

    def load(self, connection: Connection) -> None:
        """Read every published version."""
        for row in connection.execute(text("SELECT name, version, body FROM workflow")):
            self.versions[row.name, row.version] = Workflow.model_validate_json(row.body)

    @staticmethod
    def owners(connection: Connection) -> dict[tuple[str, int], str]:
        """Name and version of a workflow → its owner, where that is known."""
        return {(row.name, row.version): row.owner for row in connection.execute(text("SELECT * FROM workflow_owner"))}

    def note_deleted(self, connection: Connection) -> None:
        """Read which versions are deleted, at most once a second: any replica may delete one."""
        now = clock.unix()
        if abs(now - self._looked) >= DELETED_STALE_S:
            self._looked = now
            self.deleted = frozenset((r.name, r.version) for r in connection.execute(_DELETED))

    def newest(self, name: str) -> Workflow | None:
        """The highest version of a workflow that is not deleted."""
        found = [w for (n, v), w in self.versions.items() if n == name and (n, v) not in self.deleted]
        return max(found, key=lambda w: w.version, default=None)

    def pinned(self, name: str, version: int) -> Workflow:
        """The version that a stored job is pinned to. A job of a workflow that never existed gets a stand-in of one step."""
        known = self.versions.get((name, version))
        step = {"name": "none", "action": "none", "scope": "job"}
        return known or Workflow.model_validate({"name": name, "version": version, "steps": [step]})
