"""A secret that is still signed with after a rotation, and the attempts that a delivery had before it was replayed."""

from __future__ import annotations

from alembic import op

from shared.database.columns import integer, number, string

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("endpoint", string("former_secret", nullable=True))
    op.add_column("endpoint", number("former_until", nullable=True))
    op.add_column("delivery", integer("replayed", nullable=True))
