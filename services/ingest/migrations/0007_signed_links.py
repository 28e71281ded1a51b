"""The key that seals short-lived links to files, and the folder of an entry in a column of its own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.database.columns import integer, string

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the table, the column and its index. An entry of an older release has no folder here: its body is asked."""
    op.create_table("link_key", integer("id"), string("secret"), sa.PrimaryKeyConstraint("id"))
    op.add_column("silo_entry", string("folder", nullable=True))
    op.create_index("silo_entry_folder", "silo_entry", ["tenant_id", "folder", "created_at", "id"])
