"""Who published a workflow, so that its configuration is that tenant's alone to read."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.database.columns import integer, string

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Versions of before have no owner until it is known."""
    op.create_table(
        "workflow_owner", string("name"), integer("version"), string("owner"), sa.PrimaryKeyConstraint("name", "version")
    )
