"""What operators read and do: searchable columns and terms of jobs, backlog, workflows, schedules, bulk runs, audit."""

from __future__ import annotations

import sqlite3

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Columns and tables more: the release before does not see them."""
    op.add_column("job_view", sa.Column("stage", sa.String(), nullable=True))
    op.add_column("job_view", sa.Column("workflow", sa.String(), nullable=True))
    op.add_column("job_view", sa.Column("stage_since", sa.Float(), nullable=True))
    _fill()
    op.create_index("job_view_created", "job_view", ["tenant_id", "created_at", "id"])
    op.create_index("job_view_stage", "job_view", ["tenant_id", "stage", "created_at", "id"])
    op.create_index("job_view_since", "job_view", ["tenant_id", "stage", "stage_since", "id"])
    op.create_index("job_view_workflow", "job_view", ["tenant_id", "workflow", "created_at", "id"])
    op.create_table(
        "job_term",
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("term", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "term", "created_at", "job_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("job_term_job", "job_term", ["job_id"])
    _views()
    _work()
    _erasure()


def _fill() -> None:
    if op.get_context().dialect.name == "postgresql":
        op.execute(
            "UPDATE job_view SET stage = body::json ->> 'stage', workflow = body::json ->> 'workflow', stage_since = created_at"
        )
    else:
        op.execute(
            "UPDATE job_view SET stage = json_extract(body, '$.stage'), workflow = json_extract(body, '$.workflow'), stage_since = created_at"
        )


def _views() -> None:
    op.create_table(
        "backlog_view",
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("source"),
    )
    op.create_table(
        "workflow_view",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name", "version"),
    )
    op.create_table(
        "schedule_view",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )


def _work() -> None:
    op.create_table(
        "workflow_draft",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "saved_query",
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "name"),
    )
    op.create_table(
        "bulk",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("audit_newest", "audit", ["tenant_id", "id"])


def _erasure() -> None:
    if op.get_context().dialect.name == "sqlite" and sqlite3.sqlite_version_info >= (3, 42):
        # Deleted words leave the full-text index at once, not with some later merge.
        op.execute("INSERT INTO search (search, rank) VALUES ('secure-delete', 1)")
    op.create_table(
        "erased",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("job_id"),
    )
    op.create_table(
        "blob_ref",
        sa.Column("blob", sa.String(), nullable=False),
        sa.Column("file_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("blob", "file_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("blob_ref_file", "blob_ref", ["file_id"])
    op.create_table("blob_doomed", sa.Column("blob", sa.String(), nullable=False), sa.PrimaryKeyConstraint("blob"))
    op.create_table(
        "retention",
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("days", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id"),
    )
    value = "body::json ->> '{}'" if op.get_context().dialect.name == "postgresql" else "json_extract(body, '$.{}')"
    for name in ("blob_name", "text_blob", "result_blob"):
        found = value.format(name)
        op.execute(f"INSERT INTO blob_ref SELECT {found}, id FROM file_view WHERE {found} IS NOT NULL ON CONFLICT DO NOTHING")
