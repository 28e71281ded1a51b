"""0.3.0: jobs, branches with their timers, workflows, dispatch, schedules."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.database.columns import big_integer, integer, number, only_where, string

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables of the service."""
    _jobs()
    _dispatch()
    _steering()


def _jobs() -> None:
    op.create_table(
        "job", string("id"), string("workflow_name"), integer("workflow_version"), string("body"),
        string("trace", nullable=True), sa.PrimaryKeyConstraint("id"), sqlite_with_rowid=False,
    )  # fmt: skip
    op.create_table(
        "lane", string("job_id"), string("lane_id"), string("lease"), number("due_at", nullable=True), string("body"),
        sa.PrimaryKeyConstraint("job_id", "lane_id"), sqlite_with_rowid=False,
    )  # fmt: skip
    op.create_index("lane_due", "lane", ["due_at"], **only_where("due_at IS NOT NULL"))
    op.create_table("workflow", string("name"), integer("version"), string("body"), sa.PrimaryKeyConstraint("name", "version"))
    op.create_table("job_changed", string("job_id"), sa.PrimaryKeyConstraint("job_id"), sqlite_with_rowid=False)
    op.create_table("session_part", string("job_id"), integer("part"), string("body"), sa.PrimaryKeyConstraint("job_id", "part"))


def _dispatch() -> None:
    op.create_table(
        "ready", string("job_id"), string("lane_id"), string("lease"), string("action"), string("tenant_id"), number("rank"),
        number("since"), sa.PrimaryKeyConstraint("job_id", "lane_id"), sqlite_with_rowid=False,
    )  # fmt: skip
    op.create_index("ready_order", "ready", ["action", "tenant_id", "rank"])
    op.create_table(
        "flight", string("kind"), string("name"), integer("slot"), big_integer("n"),
        sa.PrimaryKeyConstraint("kind", "name", "slot"), sqlite_with_rowid=False,
    )  # fmt: skip
    op.create_table(
        "share", string("action"), string("tenant_id"), number("pass"), sa.PrimaryKeyConstraint("action", "tenant_id"),
        sqlite_with_rowid=False,
    )  # fmt: skip
    op.create_table(
        "control", string("kind"), string("name"), string("body"), number("tokens", nullable=True),
        number("tokens_at", nullable=True), sa.PrimaryKeyConstraint("kind", "name"),
    )  # fmt: skip
    op.create_table(
        "worker_seen", string("action"), string("worker"), number("seen_at"), integer("slots"),
        sa.PrimaryKeyConstraint("action", "worker"),
    )  # fmt: skip


def _steering() -> None:
    op.create_table("schedule", string("id"), string("body"), number("next_at", nullable=True), sa.PrimaryKeyConstraint("id"))
    op.create_table("workflow_wanted", string("command_id"), string("body"), sa.PrimaryKeyConstraint("command_id"))
