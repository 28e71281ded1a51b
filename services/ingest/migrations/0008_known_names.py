"""Names of tags and extracted values that files have."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

from contracts.identity import derived
from shared.database.columns import string

revision = "0008"
down_revision = "0007"
PAGE = 1000


def upgrade() -> None:
    """Add the table, and fill it with the names in stored files."""
    op.create_table(
        "known_name", string("tenant_id"), string("id"), string("kind"), string("name"), sa.PrimaryKeyConstraint("tenant_id", "id"),
    )  # fmt: skip
    _fill(op.get_bind())


def _fill(connection: sa.Connection) -> None:
    rows = sa.text("SELECT id, tenant_id, body FROM file_view WHERE id > :after ORDER BY id LIMIT :n")
    add = sa.text("INSERT INTO known_name (tenant_id, id, kind, name) VALUES (:t, :i, :k, :n) ON CONFLICT DO NOTHING")
    known: set[tuple[str, str, str]] = set()
    after = ""
    while page := connection.execute(rows, {"after": after, "n": PAGE}).all():
        found: set[tuple[str, str, str]] = set()
        for row in page:
            record = json.loads(row.body)
            fields, tag = record.get("fields"), record.get("tag_name")
            found |= {(row.tenant_id, "metadata", name) for name in fields} if isinstance(fields, dict) else set()
            found |= {(row.tenant_id, "tag", tag)} if tag else set()
        for tenant, kind, name in sorted(found - known):
            values = {"t": tenant, "i": derived(tenant, "alfred", kind, name), "k": kind, "n": json.dumps(name)}
            connection.execute(add, values)
        known |= found
        after = page[-1].id
