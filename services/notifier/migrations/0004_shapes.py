"""The shape in which an endpoint receives events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from contracts.identity import derived
from shared.database.columns import string

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the columns. Endpoints that were registered at the gateway get events as Alfred's clients read them."""
    op.add_column("endpoint", string("shape", nullable=True))
    op.add_column("webhook_pending", string("shape", nullable=True))
    _fill(op.get_bind())


def _fill(connection: sa.Connection) -> None:
    fill = sa.text("UPDATE endpoint SET shape = 'alfred' WHERE id = :e")
    for row in connection.execute(sa.text("SELECT id, tenant_id FROM endpoint")).all():
        registered = derived(row.tenant_id, "account-webhook")
        if row.id in (registered, derived(row.tenant_id, registered, "own-endpoint")):
            connection.execute(fill, {"e": row.id})
