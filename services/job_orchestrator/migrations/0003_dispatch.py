"""What waits for credits, what is in flight, controls; workers seen; parts of large sessions; schedules; workflows to publish."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Tables more: the release before does not see them."""
    _ready()
    _counts()
    _control()
    _others()


def _ready() -> None:
    op.create_table(
        "ready",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("lane_id", sa.String(), nullable=False),
        sa.Column("lease", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("rank", sa.Float(), nullable=False),
        sa.Column("since", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "lane_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ready_order", "ready", ["action", "tenant_id", "rank"])


def _counts() -> None:
    op.create_table(
        "flight",
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "name", "slot"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "share",
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("pass", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("action", "tenant_id"),
        sqlite_with_rowid=False,
    )


def _control() -> None:
    op.create_table(
        "control",
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.Column("tokens", sa.Float(), nullable=True),
        sa.Column("tokens_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("kind", "name"),
    )


def _others() -> None:
    op.create_table(
        "worker_seen",
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("worker", sa.String(), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("action", "worker"),
    )
    op.create_table(
        "session_part",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "part"),
    )
    op.create_table(
        "schedule",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.Column("next_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "workflow_wanted",
        sa.Column("command_id", sa.String(), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("command_id"),
    )
