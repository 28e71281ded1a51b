"""Files in the recycle bin, and erased files."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.database.columns import flag, number, string

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "recycled_file", string("file_id"), string("tenant_id"), string("job_id"), number("at"), flag("follows"),
        sa.PrimaryKeyConstraint("file_id"),
    )  # fmt: skip
    op.create_index("ix_recycled_file_at", "recycled_file", ["at"])
    op.create_table(
        "erased_file", string("file_id"), string("job_id"), number("at"), sa.PrimaryKeyConstraint("file_id", "job_id")
    )
    op.create_index("ix_erased_file_at", "erased_file", ["at"])
