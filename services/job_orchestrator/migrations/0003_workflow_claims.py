"""Which tenant may publish under a private name of a workflow."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.database.columns import string

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the table. A name that was published before belongs to the tenant that publishes it next."""
    op.create_table("workflow_claim", string("name"), string("tenant_id"), sa.PrimaryKeyConstraint("name"))
