"""Files of jobs that were run again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.database.columns import number, string

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "former_file", string("job_id"), string("file_id"), string("tenant_id"), number("created_at"), number("moved_at"),
        string("body"), sa.PrimaryKeyConstraint("job_id", "file_id"),
    )  # fmt: skip
    op.create_index("ix_former_file_file_id", "former_file", ["file_id"])
