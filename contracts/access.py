"""API keys as events. Each service with an HTTP API keeps its own copy, so that no service asks another. Events carry hashes of keys."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from contracts.loose import Id, Text, Timestamp
from contracts.message import Message

Role = Literal["admin", "operator", "producer", "reader"]


class _KeyEvent(Message):
    event_id: Id
    key_hash: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the whole key, in hex. A key holds 256 random bits, so its hash cannot be reversed."""
    tenant_id: Id
    occurred_at: Timestamp

    @property
    def message_id(self) -> str:
        return self.event_id

    @property
    def key(self) -> str:
        return self.key_hash

    @property
    def time(self) -> datetime:
        return self.occurred_at

    @property
    def tenant(self) -> str:
        return self.tenant_id


class AccessKeyIssued(_KeyEvent):
    """An API key was issued, or its name, role or expiry changed. The last record of a key holds."""

    TYPE = "stageline.access.key_issued.v1"
    VERSION = "1.2"
    tenant_name: Text
    user_name: Text
    role: Role
    prefix: str = Field(max_length=20)
    expires_at: Timestamp | None = None
    """The key is refused from this time on. None: it does not expire."""
    rights: tuple[Text, ...] | None = None
    """Rights beside the role, e.g. `share`. A service ignores those that it does not know."""


class AccessKeyRevoked(_KeyEvent):
    """An API key was revoked. Services refuse it as soon as they have read this record."""

    TYPE = "stageline.access.key_revoked.v1"
