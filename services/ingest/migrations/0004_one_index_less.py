"""An index less: what it found, the one that goes on with the id finds as well, and every stage of every job had to keep both."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """The release before is as fast without it."""
    op.drop_index("job_view_newest", "job_view")
