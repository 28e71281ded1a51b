"""The whole door: tenants, users, signing applications, limits, tags, shared links, resumable uploads, dialects' own records."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def _text(name: str, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(), nullable=nullable)


def _number(name: str, nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Float(), nullable=nullable)


def upgrade() -> None:
    """Columns and tables more: the release before does not see them."""
    op.add_column("access_key", _number("expires_at", nullable=True))
    op.create_index("file_view_newest", "file_view", ["tenant_id", "created_at", "id"])
    _accounts()
    _limits()
    _catalogue()
    _uploads()
    _dialects()


def _accounts() -> None:
    op.create_table(
        "tenant", _text("tenant_id"), _text("name"), _text("quotas"), _text("inbox", nullable=True), _number("created_at"),
        sa.PrimaryKeyConstraint("tenant_id"),
    )  # fmt: skip
    op.create_table(
        "app_user", _text("user_name"), _text("tenant_id"), _text("password_hash"), _text("role"),
        sa.Column("disabled", sa.Boolean(), nullable=False), _number("created_at"), sa.PrimaryKeyConstraint("user_name"),
    )  # fmt: skip
    op.create_index(op.f("ix_app_user_tenant_id"), "app_user", ["tenant_id"])
    op.create_table(
        "amx_app", _text("app_id"), _text("tenant_id"), _text("user_name"), _text("role"), _text("api_key"),
        sa.Column("revoked", sa.Boolean(), nullable=False), _number("created_at"), sa.PrimaryKeyConstraint("app_id"),
    )  # fmt: skip
    op.create_index(op.f("ix_amx_app_tenant_id"), "amx_app", ["tenant_id"])
    op.create_table("amx_nonce", _text("app_id"), _text("nonce"), _number("at"), sa.PrimaryKeyConstraint("app_id", "nonce"))
    op.create_index("amx_nonce_at", "amx_nonce", ["at"])


def _limits() -> None:
    op.create_table(
        "rate_window", _text("subject"), sa.Column("minute", sa.Integer(), nullable=False),
        sa.Column("taken", sa.Integer(), nullable=False), sa.PrimaryKeyConstraint("subject", "minute"),
    )  # fmt: skip
    op.create_table(
        "usage_day", _text("tenant_id"), sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("files", sa.BigInteger(), nullable=False), sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "day"),
    )  # fmt: skip


def _catalogue() -> None:
    op.create_table(
        "tag", _text("tenant_id"), _text("name"), _text("description"), _number("created_at"), _number("updated_at"),
        sa.PrimaryKeyConstraint("tenant_id", "name"),
    )  # fmt: skip
    op.create_table(
        "metadata_definition", _text("tenant_id"), _text("name"), _text("description"), _text("data_type"),
        _text("tag", nullable=True), _number("created_at"), _number("updated_at"), sa.PrimaryKeyConstraint("tenant_id", "name"),
    )  # fmt: skip
    op.create_table(
        "share_link", _text("token_hash"), _text("file_id"), _text("tenant_id"), _number("expires_at"),
        sa.PrimaryKeyConstraint("token_hash"),
    )  # fmt: skip
    op.create_index(op.f("ix_share_link_file_id"), "share_link", ["file_id"])
    op.create_index(op.f("ix_share_link_expires_at"), "share_link", ["expires_at"])


def _uploads() -> None:
    texts = ("id", "tenant_id", "tenant_name", "user_name", "session_id", "file_name", "content_type", "metadata", "said")
    op.create_table(
        "upload", *(_text(name) for name in texts), sa.Column("length", sa.BigInteger(), nullable=True),
        sa.Column("position", sa.BigInteger(), nullable=False), _text("state"), _text("concat"), _text("code", nullable=True),
        _text("message", nullable=True), _number("expires_at"), _number("due_at", nullable=True), sa.PrimaryKeyConstraint("id"),
    )  # fmt: skip
    op.create_index(op.f("ix_upload_expires_at"), "upload", ["expires_at"])
    op.create_index(op.f("ix_upload_due_at"), "upload", ["due_at"])
    op.create_table(
        "upload_part", _text("upload_id"), sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False), _text("blob"), sa.PrimaryKeyConstraint("upload_id", "start"),
    )  # fmt: skip


def _dialects() -> None:
    op.create_table(
        "silo_entry", _text("tenant_id"), _text("id"), _text("key", nullable=True), _number("created_at"), _text("body"),
        sa.PrimaryKeyConstraint("tenant_id", "id"),
    )  # fmt: skip
    op.create_index("silo_entry_key", "silo_entry", ["tenant_id", "key"], unique=True)
    op.create_index("silo_entry_newest", "silo_entry", ["tenant_id", "created_at", "id"])
    op.create_table(
        "silo_file", _text("tenant_id"), _text("id"), _text("entry_id"), _text("body"), _text("blob", nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "id"),
    )  # fmt: skip
    op.create_index("silo_file_entry", "silo_file", ["tenant_id", "entry_id"])
    op.create_table(
        "silo_flow", _text("tenant_id"), _text("id"), _text("name"), sa.Column("version", sa.Integer(), nullable=False),
        _number("created_at"), _text("body"), _text("shown"), sa.PrimaryKeyConstraint("tenant_id", "id"),
    )  # fmt: skip
    op.create_index(op.f("ix_silo_flow_name"), "silo_flow", ["name"])
    op.create_table(
        "silo_job", _text("tenant_id"), _text("job_id"), _text("key", nullable=True), _text("fingerprint"), _number("created_at"),
        _text("body"), sa.PrimaryKeyConstraint("tenant_id", "job_id"),
    )  # fmt: skip
    op.create_index("silo_job_key", "silo_job", ["tenant_id", "key"], unique=True)
    _conversion()


def _conversion() -> None:
    op.create_table(
        "conversion_job", *(_text(n) for n in ("id", "tenant_id", "workflow", "profile", "name", "options")), _number("created_at"),
        _number("started_at", nullable=True), _text("job_id", nullable=True), sa.PrimaryKeyConstraint("id"),
    )  # fmt: skip
    op.create_index("conversion_job_tenant", "conversion_job", ["tenant_id", "created_at"])
    op.create_table("conversion_data", _text("id"), _text("conversion_id"), _text("options"), sa.PrimaryKeyConstraint("id"))
    op.create_index(op.f("ix_conversion_data_conversion_id"), "conversion_data", ["conversion_id"])
    op.create_table(
        "conversion_profile", _text("tenant_id"), _text("workflow"), _text("name"), _text("options"),
        sa.Column("is_default", sa.Boolean(), nullable=False), sa.PrimaryKeyConstraint("tenant_id", "workflow", "name"),
    )  # fmt: skip
    op.create_table(
        "conversion_connection", _text("tenant_id"), _text("id"), _text("workflow"), _text("profile"), _text("output_url", nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "id"),
    )  # fmt: skip
    op.create_table(
        "conversion_outlet", _text("job_id"), _text("tenant_id"), _text("kind"), _text("target"),
        sa.Column("attempt", sa.Integer(), nullable=False), _number("due_at"), sa.PrimaryKeyConstraint("job_id"),
    )  # fmt: skip
    op.create_index(op.f("ix_conversion_outlet_due_at"), "conversion_outlet", ["due_at"])
