"""Deleted workflows, and questions which objects are referred to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.database.columns import integer, string

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the tables."""
    op.create_table("workflow_deleted", string("name"), integer("version"), sa.PrimaryKeyConstraint("name", "version"))
    op.create_table("reference_question", string("command_id"), string("body"), sa.PrimaryKeyConstraint("command_id"))
