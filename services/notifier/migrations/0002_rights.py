"""Rights of keys beside their roles."""

from __future__ import annotations

from alembic import op

from shared.database.columns import string

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column."""
    op.add_column("access_key", string("rights", nullable=True))
