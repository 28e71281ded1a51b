"""Keys that end."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """A column more: the release before does not see it."""
    op.add_column("access_key", sa.Column("expires_at", sa.Float(), nullable=True))
