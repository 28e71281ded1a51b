"""Seal keys, with which the records of erased jobs become unreadable."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.database.columns import integer, string

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "seal_key", string("id"), sa.Column("created_at", sa.Float(), nullable=False), sa.Column("used_until", sa.Float()),
        sa.PrimaryKeyConstraint("id"),
    )  # fmt: skip
    op.create_table(
        "seal_part",
        string("key_id"),
        integer("part"),
        integer("version"),
        string("nodes"),
        sa.PrimaryKeyConstraint("key_id", "part"),
    )
