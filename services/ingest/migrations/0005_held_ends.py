"""Ends of jobs that are held back until everything of their files has been read, and files that were read before their jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Tables more: the release before does not see them."""
    op.create_table(
        "held_end", sa.Column("job_id", sa.String(), nullable=False), sa.Column("due_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("job_id"),
    )  # fmt: skip
    op.create_table(
        "early_end", sa.Column("job_id", sa.String(), nullable=False), sa.Column("file_ends", sa.Integer(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False), sa.PrimaryKeyConstraint("job_id"),
    )  # fmt: skip
