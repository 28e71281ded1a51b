"""Names of the tenants' secrets."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.database.columns import number, string

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the table of secrets. Their values are in no table."""
    op.create_table(
        "tenant_secret",
        string("tenant_id"),
        string("name"),
        string("origins"),
        string("changed_by"),
        number("changed_at"),
        sa.PrimaryKeyConstraint("tenant_id", "name"),
    )
