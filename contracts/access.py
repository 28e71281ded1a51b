"""Credentials as facts: every service that has a door keeps its own copy, so none asks another. Never the key itself."""

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
    """SHA-256 of the whole key, which holds 256 random bits: not reversible, so safe on a topic."""
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
    TYPE = "stageline.access.key_issued.v1"
    VERSION = "1.1"
    tenant_name: Text
    user_name: Text
    role: Role
    prefix: str = Field(max_length=20)
    expires_at: Timestamp | None = None
    """From this time on it is no key any more; None for one that stands until it is revoked."""


class AccessKeyRevoked(_KeyEvent):
    TYPE = "stageline.access.key_revoked.v1"
