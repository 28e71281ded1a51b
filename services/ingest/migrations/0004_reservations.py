"""Reserved places, claimed and doomed objects, turns of rows, actions of tenants."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.database.columns import big_integer, flag, integer, number, string

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "reservation", string("tenant_id"), string("id"), integer("jobs"), integer("files"), big_integer("bytes"),
        number("expires_at"), sa.PrimaryKeyConstraint("tenant_id", "id"),
    )  # fmt: skip
    op.create_table(
        "object_claim", string("blob"), string("file_id"), number("at"), sa.PrimaryKeyConstraint("blob", "file_id"),
    )  # fmt: skip
    op.create_index("ix_object_claim_at", "object_claim", ["at"])
    op.create_index("object_claim_file", "object_claim", ["file_id"])
    op.create_table(
        "doomed_object", string("blob"), number("at"), number("next_at"), integer("attempts"), number("deleting_until"),
        sa.PrimaryKeyConstraint("blob"),
    )  # fmt: skip
    op.create_index("ix_doomed_object_next_at", "doomed_object", ["next_at"])
    op.create_table(
        "row_turn", string("id"), string("kind"), integer("attempts"), number("next_at"), sa.PrimaryKeyConstraint("id", "kind"),
    )  # fmt: skip
    op.create_index("ix_row_turn_next_at", "row_turn", ["next_at"])
    op.create_table(
        "workflow_gone", string("name"), integer("version"), sa.PrimaryKeyConstraint("name", "version"),
    )  # fmt: skip
    op.create_table(
        "tenant_action", string("tenant_id"), string("action"), flag("allowed"), number("created_at"),
        sa.PrimaryKeyConstraint("tenant_id", "action"),
    )  # fmt: skip
    op.create_table(
        "silo_flow_gone", string("tenant_id"), string("name"), string("shown"), number("deleted_at"),
        sa.PrimaryKeyConstraint("tenant_id", "name"),
    )  # fmt: skip
