"""The read model, idempotency keys, access keys, full-text search."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Forward only: there is no way back but a restored backup."""
    _access_key()
    _decision()
    _file_view()
    _history()
    _idempotency()
    _index_pending()
    _job_view()
    _session_view()
    _search()


def _access_key() -> None:
    op.create_table(
        "access_key",
        sa.Column("key_hash", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("tenant_name", sa.String(), nullable=False),
        sa.Column("user_name", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("prefix", sa.String(), nullable=False),
        sa.Column("revoked", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("key_hash"),
    )


def _decision() -> None:
    op.create_table(
        "decision",
        sa.Column("command_id", sa.String(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("command_id"),
    )
    op.create_index(op.f("ix_decision_at"), "decision", ["at"], unique=False)


def _file_view() -> None:
    op.create_table(
        "file_view",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("session_id", sa.String(), nullable=True),
        sa.Column("job_id", sa.String(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_file_view_job_id"), "file_view", ["job_id"], unique=False)
    op.create_index(op.f("ix_file_view_session_id"), "file_view", ["session_id"], unique=False)


def _history() -> None:
    op.create_table(
        "history",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_history_job_id"), "history", ["job_id"], unique=False)


def _idempotency() -> None:
    op.create_table(
        "idempotency",
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "key"),
    )


def _index_pending() -> None:
    op.create_table(
        "index_pending",
        sa.Column("file_id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("file_name", sa.String(), nullable=False),
        sa.Column("blob", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("file_id"),
    )


def _job_view() -> None:
    op.create_table(
        "job_view",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("job_view_newest", "job_view", ["tenant_id", "created_at"], unique=False)


def _session_view() -> None:
    op.create_table(
        "session_view",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )


def _search() -> None:
    if op.get_context().dialect.name == "postgresql":
        op.create_table(
            "search",
            sa.Column("file_id", sa.String(), primary_key=True),
            sa.Column("tenant_id", sa.String(), nullable=False),
            sa.Column("file_name", sa.String(), nullable=False),
            sa.Column("body", sa.String(), nullable=False),
            sa.Column("words", postgresql.TSVECTOR(), nullable=False),
        )
        op.create_index("search_words", "search", ["words"], postgresql_using="gin")
        op.create_index("search_tenant", "search", ["tenant_id"])
    else:
        op.execute(
            "CREATE VIRTUAL TABLE search USING fts5("
            "file_id UNINDEXED, tenant_id UNINDEXED, file_name, body, tokenize='unicode61 remove_diacritics 2')"
        )
