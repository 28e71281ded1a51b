"""Due deliveries of each endpoint in their order."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """An index more: the release before does not mind."""
    due = sa.text("due_at IS NOT NULL")
    columns = ["endpoint_id", "due_at", "position"]
    op.create_index("delivery_turn", "delivery", columns, unique=False, sqlite_where=due, postgresql_where=due)
