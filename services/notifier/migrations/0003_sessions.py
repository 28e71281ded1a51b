"""The session of a delivery, so that the session's erasure finds it."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

from shared.database.columns import only_where, string

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column, and fill it for deliveries of sessions' events."""
    op.add_column("delivery", string("session_id", nullable=True))
    _fill(op.get_bind())
    op.create_index("delivery_session", "delivery", ["session_id"], **only_where("session_id IS NOT NULL"))


def _fill(connection: sa.Connection) -> None:
    rows = sa.text("SELECT endpoint_id, event_id, body FROM delivery WHERE event_type LIKE 'session.%'")
    fill = sa.text("UPDATE delivery SET session_id = :s WHERE endpoint_id = :e AND event_id = :i")
    for row in connection.execute(rows).all():
        session = json.loads(bytes(row.body)).get("session_id")
        connection.execute(fill, {"s": session, "e": row.endpoint_id, "i": row.event_id})
