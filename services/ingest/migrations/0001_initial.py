"""0.3.0: the read model, full-text search, accounts, limits, uploads, records of the dialects."""

from __future__ import annotations

import sqlite3

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from shared.database.columns import big_integer, counted_id, flag, integer, number, string

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables of the service."""
    _read_model()
    _search()
    _access_keys()
    _operations()
    _erasures()
    _accounts()
    _quotas()
    _catalogue()
    _uploads()
    _invopop()
    _pdftools()


def _read_model() -> None:
    op.create_table(
        "job_view", string("id"), string("tenant_id"), number("created_at"), string("body"), string("stage", nullable=True),
        string("workflow", nullable=True), number("stage_since", nullable=True), sa.PrimaryKeyConstraint("id"),
    )  # fmt: skip
    op.create_index("job_view_created", "job_view", ["tenant_id", "created_at", "id"])
    op.create_index("job_view_since", "job_view", ["tenant_id", "stage", "stage_since", "id"])
    op.create_index("job_view_stage", "job_view", ["tenant_id", "stage", "created_at", "id"])
    op.create_index("job_view_workflow", "job_view", ["tenant_id", "workflow", "created_at", "id"])
    op.create_table(
        "file_view", string("id"), string("tenant_id"), string("session_id", nullable=True), string("job_id", nullable=True),
        number("created_at"), string("body"), sa.PrimaryKeyConstraint("id"),
    )  # fmt: skip
    op.create_index("file_view_newest", "file_view", ["tenant_id", "created_at", "id"])
    op.create_index("ix_file_view_job_id", "file_view", ["job_id"])
    op.create_index("ix_file_view_session_id", "file_view", ["session_id"])
    op.create_table("session_view", string("id"), string("tenant_id"), string("body"), sa.PrimaryKeyConstraint("id"))
    op.create_table("history", counted_id("id"), string("job_id"), string("body"), sa.PrimaryKeyConstraint("id"))
    op.create_index("ix_history_job_id", "history", ["job_id"])
    op.create_table("decision", string("command_id"), number("at"), string("body"), sa.PrimaryKeyConstraint("command_id"))
    op.create_index("ix_decision_at", "decision", ["at"])
    op.create_table("held_end", string("job_id"), number("due_at"), sa.PrimaryKeyConstraint("job_id"))
    op.create_table("early_end", string("job_id"), integer("file_ends"), number("at"), sa.PrimaryKeyConstraint("job_id"))
    op.create_table(
        "index_pending", string("file_id"), string("tenant_id"), string("file_name"), string("blob"),
        sa.PrimaryKeyConstraint("file_id"),
    )  # fmt: skip
    op.create_table(
        "idempotency", string("tenant_id"), string("key"), string("fingerprint"), number("created_at"),
        sa.PrimaryKeyConstraint("tenant_id", "key"),
    )  # fmt: skip


def _search() -> None:
    # No model: full-text search is another thing on each database.
    if op.get_context().dialect.name == "postgresql":
        op.create_table(
            "search", string("file_id"), string("tenant_id"), string("file_name"), string("body"),
            sa.Column("words", postgresql.TSVECTOR(), nullable=False), sa.PrimaryKeyConstraint("file_id"),
        )  # fmt: skip
        op.create_index("search_words", "search", ["words"], postgresql_using="gin")
        op.create_index("search_tenant", "search", ["tenant_id"])
        return
    op.execute(
        "CREATE VIRTUAL TABLE search USING fts5("
        "file_id UNINDEXED, tenant_id UNINDEXED, file_name, body, tokenize='unicode61 remove_diacritics 2')"
    )
    if sqlite3.sqlite_version_info >= (3, 42):
        # Erased words leave the index at once, not with a later merge.
        op.execute("INSERT INTO search (search, rank) VALUES ('secure-delete', 1)")


def _access_keys() -> None:
    op.create_table(
        "access_key", string("key_hash"), string("tenant_id"), string("tenant_name"), string("user_name"), string("role"),
        string("prefix"), flag("revoked"), number("expires_at", nullable=True), sa.PrimaryKeyConstraint("key_hash"),
    )  # fmt: skip


def _operations() -> None:
    op.create_table(
        "job_term", string("tenant_id"), string("term"), number("created_at"), string("job_id"),
        sa.PrimaryKeyConstraint("tenant_id", "term", "created_at", "job_id"), sqlite_with_rowid=False,
    )  # fmt: skip
    op.create_index("job_term_job", "job_term", ["job_id"])
    op.create_table("backlog_view", string("source"), number("at"), string("body"), sa.PrimaryKeyConstraint("source"))
    op.create_table(
        "workflow_view", string("name"), integer("version"), string("body"), sa.PrimaryKeyConstraint("name", "version"),
    )  # fmt: skip
    op.create_table(
        "schedule_view", string("id"), string("tenant_id"), integer("revision"), string("body"), sa.PrimaryKeyConstraint("id"),
    )  # fmt: skip
    op.create_table("workflow_draft", string("name"), string("body"), sa.PrimaryKeyConstraint("name"))
    op.create_table(
        "saved_query", string("tenant_id"), string("name"), string("body"), sa.PrimaryKeyConstraint("tenant_id", "name"),
    )  # fmt: skip
    op.create_table(
        "bulk", string("id"), string("tenant_id"), number("created_at"), string("state"), string("body"),
        sa.PrimaryKeyConstraint("id"),
    )  # fmt: skip
    op.create_table("audit", counted_id("id"), string("tenant_id"), number("at"), string("body"), sa.PrimaryKeyConstraint("id"))
    op.create_index("audit_newest", "audit", ["tenant_id", "id"])


def _erasures() -> None:
    op.create_table("erased", string("job_id"), number("at"), sa.PrimaryKeyConstraint("job_id"))
    op.create_table(
        "blob_ref", string("blob"), string("file_id"), sa.PrimaryKeyConstraint("blob", "file_id"), sqlite_with_rowid=False,
    )  # fmt: skip
    op.create_index("blob_ref_file", "blob_ref", ["file_id"])
    op.create_table("blob_doomed", string("blob"), sa.PrimaryKeyConstraint("blob"))
    op.create_table("retention", string("tenant_id"), number("days"), sa.PrimaryKeyConstraint("tenant_id"))


def _accounts() -> None:
    op.create_table(
        "tenant", string("tenant_id"), string("name"), string("quotas"), string("inbox", nullable=True), number("created_at"),
        sa.PrimaryKeyConstraint("tenant_id"),
    )  # fmt: skip
    op.create_table(
        "app_user", string("user_name"), string("tenant_id"), string("password_hash"), string("role"), flag("disabled"),
        number("created_at"), sa.PrimaryKeyConstraint("user_name"),
    )  # fmt: skip
    op.create_index("ix_app_user_tenant_id", "app_user", ["tenant_id"])
    op.create_table(
        "amx_app", string("app_id"), string("tenant_id"), string("user_name"), string("role"), string("api_key"),
        flag("revoked"), number("created_at"), sa.PrimaryKeyConstraint("app_id"),
    )  # fmt: skip
    op.create_index("ix_amx_app_tenant_id", "amx_app", ["tenant_id"])
    op.create_table("amx_nonce", string("app_id"), string("nonce"), number("at"), sa.PrimaryKeyConstraint("app_id", "nonce"))
    op.create_index("amx_nonce_at", "amx_nonce", ["at"])


def _quotas() -> None:
    op.create_table(
        "rate_window", string("subject"), integer("minute"), integer("taken"), sa.PrimaryKeyConstraint("subject", "minute"),
    )  # fmt: skip
    op.create_table(
        "usage_day", string("tenant_id"), integer("day"), big_integer("files"), big_integer("bytes"),
        sa.PrimaryKeyConstraint("tenant_id", "day"),
    )  # fmt: skip


def _catalogue() -> None:
    op.create_table(
        "tag", string("tenant_id"), string("name"), string("description"), number("created_at"), number("updated_at"),
        sa.PrimaryKeyConstraint("tenant_id", "name"),
    )  # fmt: skip
    op.create_table(
        "metadata_definition", string("tenant_id"), string("name"), string("description"), string("data_type"),
        string("tag", nullable=True), number("created_at"), number("updated_at"), sa.PrimaryKeyConstraint("tenant_id", "name"),
    )  # fmt: skip
    op.create_table(
        "share_link", string("token_hash"), string("file_id"), string("tenant_id"), number("expires_at"),
        sa.PrimaryKeyConstraint("token_hash"),
    )  # fmt: skip
    op.create_index("ix_share_link_expires_at", "share_link", ["expires_at"])
    op.create_index("ix_share_link_file_id", "share_link", ["file_id"])


def _uploads() -> None:
    op.create_table(
        "upload", string("id"), string("tenant_id"), string("tenant_name"), string("user_name"), string("session_id"),
        string("file_name"), string("content_type"), string("metadata"), string("said"), big_integer("length", nullable=True),
        big_integer("position"), string("state"), string("concat"), string("code", nullable=True),
        string("message", nullable=True), number("expires_at"), number("due_at", nullable=True), sa.PrimaryKeyConstraint("id"),
    )  # fmt: skip
    op.create_index("ix_upload_due_at", "upload", ["due_at"])
    op.create_index("ix_upload_expires_at", "upload", ["expires_at"])
    op.create_table(
        "upload_part", string("upload_id"), big_integer("start"), big_integer("size"), string("blob"),
        sa.PrimaryKeyConstraint("upload_id", "start"),
    )  # fmt: skip


def _invopop() -> None:
    op.create_table(
        "silo_entry", string("tenant_id"), string("id"), string("key", nullable=True), number("created_at"), string("body"),
        sa.PrimaryKeyConstraint("tenant_id", "id"),
    )  # fmt: skip
    op.create_index("silo_entry_key", "silo_entry", ["tenant_id", "key"], unique=True)
    op.create_index("silo_entry_newest", "silo_entry", ["tenant_id", "created_at", "id"])
    op.create_table(
        "silo_file", string("tenant_id"), string("id"), string("entry_id"), string("body"), string("blob", nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "id"),
    )  # fmt: skip
    op.create_index("silo_file_entry", "silo_file", ["tenant_id", "entry_id"])
    op.create_table(
        "silo_flow", string("tenant_id"), string("id"), string("name"), integer("version"), number("created_at"),
        string("body"), string("shown"), sa.PrimaryKeyConstraint("tenant_id", "id"),
    )  # fmt: skip
    op.create_index("ix_silo_flow_name", "silo_flow", ["name"])
    op.create_table(
        "silo_job", string("tenant_id"), string("job_id"), string("key", nullable=True), string("fingerprint"),
        number("created_at"), string("body"), sa.PrimaryKeyConstraint("tenant_id", "job_id"),
    )  # fmt: skip
    op.create_index("silo_job_key", "silo_job", ["tenant_id", "key"], unique=True)


def _pdftools() -> None:
    op.create_table(
        "conversion_job", string("id"), string("tenant_id"), string("workflow"), string("profile"), string("name"),
        string("options"), number("created_at"), number("started_at", nullable=True), string("job_id", nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )  # fmt: skip
    op.create_index("conversion_job_tenant", "conversion_job", ["tenant_id", "created_at"])
    op.create_table("conversion_data", string("id"), string("conversion_id"), string("options"), sa.PrimaryKeyConstraint("id"))
    op.create_index("ix_conversion_data_conversion_id", "conversion_data", ["conversion_id"])
    op.create_table(
        "conversion_profile", string("tenant_id"), string("workflow"), string("name"), string("options"), flag("is_default"),
        sa.PrimaryKeyConstraint("tenant_id", "workflow", "name"),
    )  # fmt: skip
    op.create_table(
        "conversion_connection", string("tenant_id"), string("id"), string("workflow"), string("profile"),
        string("output_url", nullable=True), sa.PrimaryKeyConstraint("tenant_id", "id"),
    )  # fmt: skip
    op.create_table(
        "conversion_outlet", string("job_id"), string("tenant_id"), string("kind"), string("target"), integer("attempt"),
        number("due_at"), sa.PrimaryKeyConstraint("job_id"),
    )  # fmt: skip
    op.create_index("ix_conversion_outlet_due_at", "conversion_outlet", ["due_at"])
