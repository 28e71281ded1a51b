"""The inbox by place: a row for what a transaction took of a partition, instead of a row for each message."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """A table more: the release before does not see it, and goes on with its own inbox, where a repeat is looked for too."""
    op.create_table(
        "taken",
        sa.Column("partition_name", sa.String(), nullable=False),
        sa.Column("last_offset", sa.BigInteger(), nullable=False),
        sa.Column("first_offset", sa.BigInteger(), nullable=False),
        sa.Column("marks", sa.LargeBinary(), nullable=False),
        sa.Column("taken_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("partition_name", "last_offset"),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_taken_taken_at"), "taken", ["taken_at"], unique=False)
