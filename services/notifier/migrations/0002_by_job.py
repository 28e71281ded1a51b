"""Deliveries and attempts by job: erased jobs leave none."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Indexes more: the release before does not mind."""
    op.create_index("delivery_job", "delivery", ["job_id"])
    op.create_index("attempt_job", "attempt", ["job_id"])
