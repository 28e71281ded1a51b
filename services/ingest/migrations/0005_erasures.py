"""When a session was last used, and erasures that wait."""

from __future__ import annotations

import json
from datetime import datetime

import sqlalchemy as sa
from alembic import op

from shared.database.columns import number, only_where, string

revision = "0005"
down_revision = "0004"
PAGE = 1000


def upgrade() -> None:
    """Add the columns, fill them for sessions without a job, and add the tables."""
    op.add_column("session_view", string("status", nullable=True))
    op.add_column("session_view", number("changed_at", nullable=True))
    _fill(op.get_bind())
    op.create_index("session_view_unused", "session_view", ["changed_at"], **only_where("status IN ('open', 'expired')"))
    op.create_table(
        "erasure_request", string("id"), string("kind"), string("tenant_id"), string("by_user"), string("reason"), number("at"),
        sa.PrimaryKeyConstraint("id"),
    )  # fmt: skip
    op.create_index("erasure_request_oldest", "erasure_request", ["tenant_id", "at"])
    op.create_table(
        "tenant_erasure", string("tenant_id"), string("state"), string("by_user"), number("started_at"),
        number("announced_at", nullable=True), number("ended_at", nullable=True), sa.PrimaryKeyConstraint("tenant_id"),
    )  # fmt: skip


def _fill(connection: sa.Connection) -> None:
    rows = sa.text("SELECT id, body FROM session_view WHERE id > :after ORDER BY id LIMIT :n")
    fill = sa.text("UPDATE session_view SET status = :s, changed_at = :at WHERE id = :i")
    after = ""
    while page := connection.execute(rows, {"after": after, "n": PAGE}).all():
        for row in page:
            record = json.loads(row.body)
            if record["status"] == "closed":
                continue
            at = datetime.fromisoformat(record.get("update_date") or record["creation_date"]).timestamp()
            connection.execute(fill, {"s": record["status"], "at": at, "i": row.id})
        after = page[-1].id
