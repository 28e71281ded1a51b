"""Registration of a webhook: the command from the HTTP API to the notifier, and the notifier's answer."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from contracts.loose import Id, Text, Timestamp
from contracts.message import Message
from contracts.work import Tenancy


class RegisterWebhook(Message):
    """Verify that `url` answers a `url_verification` challenge, then send it every event of the tenant.

    A tenant has one such URL: a new one replaces the old.
    """

    TYPE = "stageline.webhook.register.v1"
    VERSION = "1.1"
    command_id: Id
    endpoint_id: Id
    owner: Tenancy
    url: str = Field(min_length=1, max_length=2048)
    issued_at: Timestamp
    flat: bool | None = None
    """True: the members of an event's inner object also stand beside those of the envelope."""

    @property
    def message_id(self) -> str:
        return self.command_id

    @property
    def key(self) -> str:
        return self.endpoint_id

    @property
    def time(self) -> datetime:
        return self.issued_at

    @property
    def tenant(self) -> str:
        return self.owner.tenant_id


class WebhookDecided(Message):
    """The answer to a `RegisterWebhook`.

    `code` of a refused one: `ssrf_refused`, `challenge_failed`, or a kind of failure as in `DeliveryAttempted.error`.
    """

    TYPE = "stageline.webhook.decided.v1"
    event_id: Id
    command_id: Id
    endpoint_id: Id
    tenant_id: Id
    ok: bool
    code: str | None = Field(default=None, max_length=100)
    message: Text | None = Field(default=None, max_length=1000)
    occurred_at: Timestamp

    @property
    def message_id(self) -> str:
        return self.event_id

    @property
    def key(self) -> str:
        return self.endpoint_id

    @property
    def time(self) -> datetime:
        return self.occurred_at

    @property
    def tenant(self) -> str:
        return self.tenant_id


class WebhookChanged(Message):
    """What a person, or the notifier itself, did to a webhook endpoint. The gateway enters it into the audit."""

    TYPE = "stageline.webhook.changed.v1"
    event_id: Id
    command_id: Id
    endpoint_id: Id
    tenant_id: Id
    verb: str = Field(min_length=1, max_length=100)
    """`add`, `edit`, `test`, `rotate`, `enable`, `disable`, `delete` or `replay`."""
    by: Text = Field(default="", max_length=500)
    reason: Text = Field(default="", max_length=1000)
    message: Text = Field(default="", max_length=1000)
    """What came of it, for people to read."""
    occurred_at: Timestamp

    @property
    def message_id(self) -> str:
        return self.event_id

    @property
    def key(self) -> str:
        return self.endpoint_id

    @property
    def time(self) -> datetime:
        return self.occurred_at

    @property
    def tenant(self) -> str:
        return self.tenant_id
