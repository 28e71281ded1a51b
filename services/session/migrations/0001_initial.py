"""0.3.0: deferred sessions and their files."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.database.columns import integer, number, only_where, string

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables of the service."""
    op.create_table(
        "session", string("id"), string("owner"), string("state"), number("created_at"), number("expires_at"),
        integer("file_count"), string("job_id", nullable=True), string("fingerprint", nullable=True), integer("list_bytes"),
        sa.PrimaryKeyConstraint("id"),
    )  # fmt: skip
    op.create_index("session_due", "session", ["expires_at"], **only_where("state = 'open'"))
    op.create_table(
        "session_file", string("session_id"), string("file_id"), integer("position"), string("body"),
        sa.PrimaryKeyConstraint("session_id", "file_id"),
    )  # fmt: skip
