"""What operators did with dead letters; workers and what they run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.database.columns import flag, number, string

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "letter_act", string("letter_id"), string("verb"), number("at"), string("by"), string("reason"), flag("done"),
        sa.PrimaryKeyConstraint("letter_id"),
    )  # fmt: skip
    op.create_index("ix_letter_act_at", "letter_act", ["at"])
    op.create_table("worker_view", string("name"), number("at"), string("body"), sa.PrimaryKeyConstraint("name"))
