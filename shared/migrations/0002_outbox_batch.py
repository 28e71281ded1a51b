"""What a transaction decided in one row of the outbox, instead of a row for each record."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """A table more: the release before does not see it, and goes on with its own."""
    op.create_table(
        "outbox_batch",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("shard", sa.String(), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.Column("records", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_outbox_batch_shard"), "outbox_batch", ["shard"], unique=False)
