"""Jobs whose state has yet to be published on `job.state`."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """A table more: the release before does not see it."""
    op.create_table(
        "job_changed",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("job_id"),
        sqlite_with_rowid=False,
    )
