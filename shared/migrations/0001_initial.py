"""0.3.0: inbox and outbox."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.database.columns import counted_id, integer, number, string

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables of `shared/database/store.py`."""
    op.create_table(
        "seen", string("message_id"), number("seen_at"), sa.PrimaryKeyConstraint("message_id"), sqlite_with_rowid=False,
    )  # fmt: skip
    op.create_index("ix_seen_seen_at", "seen", ["seen_at"])
    op.create_table(
        "outbox_batch", counted_id("id"), string("shard"), string("body"), integer("records"), number("created_at"),
        sa.PrimaryKeyConstraint("id"),
    )  # fmt: skip
    op.create_index("ix_outbox_batch_shard", "outbox_batch", ["shard"])
