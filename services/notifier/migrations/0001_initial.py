"""0.3.0: endpoints, deliveries, attempts, access keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.database.columns import big_integer, binary, flag, integer, number, only_where, string

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables of the service."""
    _deliveries()
    _access_keys()


def _deliveries() -> None:
    op.create_table(
        "endpoint", string("id"), string("tenant_id"), string("url"), string("secret"), string("events"), string("description"),
        number("created_at"), string("disabled_reason", nullable=True), number("failing_since", nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )  # fmt: skip
    op.create_index("ix_endpoint_tenant_id", "endpoint", ["tenant_id"])
    op.create_table(
        "delivery", string("endpoint_id"), string("event_id"), string("tenant_id"), string("event_type"),
        string("job_id", nullable=True), binary("body"), string("trace", nullable=True), string("state"),
        string("reason", nullable=True), integer("attempt"), number("due_at", nullable=True), number("created_at"),
        big_integer("position"), sa.PrimaryKeyConstraint("endpoint_id", "event_id"),
    )  # fmt: skip
    op.create_index("delivery_due", "delivery", ["due_at"], **only_where("due_at IS NOT NULL"))
    op.create_index("delivery_in_flight", "delivery", ["endpoint_id", "job_id"], **only_where("state = 'in_flight'"))
    op.create_index("delivery_job", "delivery", ["job_id"])
    op.create_index("delivery_turn", "delivery", ["endpoint_id", "due_at", "position"], **only_where("due_at IS NOT NULL"))
    op.create_table(
        "attempt", string("id"), string("endpoint_id"), string("event_id"), string("event_type"),
        string("job_id", nullable=True), integer("attempt"), number("attempted_at"), string("outcome"),
        integer("status_code", nullable=True), string("error", nullable=True), string("detail", nullable=True),
        number("duration_ms"), number("next_attempt_at", nullable=True), sa.PrimaryKeyConstraint("id"),
    )  # fmt: skip
    op.create_index("attempt_job", "attempt", ["job_id"])
    op.create_index("attempt_newest", "attempt", ["endpoint_id", "attempted_at"])
    op.create_table(
        "webhook_pending", string("command_id"), string("endpoint_id"), string("tenant_id"), string("url"), number("due_at"),
        sa.PrimaryKeyConstraint("command_id"),
    )  # fmt: skip
    op.create_index("ix_webhook_pending_due_at", "webhook_pending", ["due_at"])


def _access_keys() -> None:
    op.create_table(
        "access_key", string("key_hash"), string("tenant_id"), string("tenant_name"), string("user_name"), string("role"),
        string("prefix"), flag("revoked"), number("expires_at", nullable=True), sa.PrimaryKeyConstraint("key_hash"),
    )  # fmt: skip
