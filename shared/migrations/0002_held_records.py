"""Records that Kafka refuses while it takes others."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.database.columns import counted_id, integer, number, string

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "outbox_held", counted_id("id"), string("topic"), string("code"), string("body"), integer("records"), number("created_at"),
        sa.PrimaryKeyConstraint("id"),
    )  # fmt: skip
    op.create_index("ix_outbox_held_topic", "outbox_held", ["topic"])
