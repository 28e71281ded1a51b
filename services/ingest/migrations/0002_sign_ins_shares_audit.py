"""Delays of sign-ins, makers of shared links, rights beside roles, and the audit's chain of hashes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.database.columns import big_integer, integer, number, string

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add tables and columns."""
    op.add_column("access_key", string("rights", nullable=True))
    op.add_column("app_user", string("rights", nullable=True))
    op.add_column("amx_app", string("rights", nullable=True))
    op.add_column("share_link", number("created_at", nullable=True))
    op.add_column("share_link", string("created_by", nullable=True))
    op.add_column("share_link", string("credential", nullable=True))
    op.create_table(
        "signin", string("address"), string("name_hash"), integer("failures"), number("blocked_until"),
        number("succeeded_at", nullable=True), number("at"), sa.PrimaryKeyConstraint("address", "name_hash"),
    )  # fmt: skip
    op.create_index("ix_signin_at", "signin", ["at"])
    op.add_column("audit", sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True))
    op.add_column("audit", string("hash", nullable=True))
    op.create_index("audit_seq", "audit", ["seq"], unique=True)
    op.create_table(
        "audit_chain", integer("id"), big_integer("anchor_seq"), string("anchor_hash"), big_integer("head_seq"), string("head_hash"),
        sa.PrimaryKeyConstraint("id"),
    )  # fmt: skip
