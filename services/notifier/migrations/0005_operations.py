"""Secrets that still sign after a rotation, the attempts before a replay, and what operators did."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.database.columns import integer, number, string

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the columns and the table."""
    op.add_column("endpoint", string("former_secrets", nullable=True))
    op.add_column("delivery", integer("replayed", nullable=True))
    op.create_table(
        "webhook_act", string("command_id"), string("tenant_id"), string("endpoint_id"), string("fingerprint"), string("answer"),
        number("at"), sa.PrimaryKeyConstraint("command_id"),
    )  # fmt: skip
    op.create_index("ix_webhook_act_at", "webhook_act", ["at"])
