"""Events of the notifier: one per webhook attempt, so that every delivery can be traced."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from contracts.loose import Id, Text, Timestamp
from contracts.message import Message


class DeliveryAttempted(Message):
    """One attempt to deliver one event to one endpoint, and its outcome."""

    TYPE = "stageline.delivery.attempted.v1"
    attempt_id: Id
    tenant_id: Id
    endpoint_id: Id
    event_id: Id
    event_type: str
    job_id: str | None = None
    attempt: int = Field(ge=1)
    attempted_at: Timestamp
    outcome: Literal["delivered", "retrying", "exhausted", "refused", "disabled"]
    status_code: int | None = None
    error: str | None = None
    """The kind of failure: `dns_error`, `connection_refused`, `tls_error`, `timeout`, `ssrf_refused` or `http_status`."""
    detail: Text | None = Field(default=None, max_length=1000)
    duration_ms: float = Field(ge=0)
    next_attempt_at: Timestamp | None = None

    @property
    def message_id(self) -> str:
        return self.attempt_id

    @property
    def key(self) -> str:
        return self.endpoint_id

    @property
    def time(self) -> datetime:
        return self.attempted_at

    @property
    def tenant(self) -> str:
        return self.tenant_id
