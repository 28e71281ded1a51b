"""Secrets of tenants as events. The value is sealed with a key that the gateway and the workers hold; no store and no topic has it in clear."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from contracts.loose import Id, Text, Timestamp
from contracts.message import Message
from contracts.secrecy import SECRET_NAME


class SecretChanged(Message):
    """A secret of a tenant was set or deleted. The last record of a secret holds."""

    TYPE = "stageline.secret.changed.v1"
    event_id: Id
    tenant_id: Id
    name: str = Field(pattern=SECRET_NAME)
    sealed: str | None = Field(default=None, max_length=40_000)
    """The value, encrypted and authenticated together with tenant, name and origins (Base64). None: the secret was deleted."""
    origins: tuple[str, ...] = Field(default=(), max_length=20)
    """Scheme, host and port of the addresses that it may be sent to. Empty: that of the step which names it."""
    by: Text = ""
    occurred_at: Timestamp

    @property
    def message_id(self) -> str:
        return self.event_id

    @property
    def key(self) -> str:
        return f"{self.tenant_id}/{self.name}"

    @property
    def time(self) -> datetime:
        return self.occurred_at

    @property
    def tenant(self) -> str:
        return self.tenant_id
