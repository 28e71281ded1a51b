"""Standard Webhooks 1.0.0 signatures (`v1`, HMAC-SHA256).

The official package is not used because it signs a wrong time in some time zones.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re

from contracts.identity import derived

PREFIX = "whsec_"


def secret_bytes(secret: str) -> bytes:
    """The key in a `whsec_…` secret. Raises `ValueError` with the reason."""
    try:
        raw = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("secret: base64 after `whsec_` is expected") from None
    if not 24 <= len(raw) <= 64:
        raise ValueError(f"secret: 24 to 64 bytes are expected, not {len(raw)}")
    return raw


def new_secret(random: bytes) -> str:
    """A `whsec_…` secret from 24 to 64 random bytes. Raises `ValueError` for another length."""
    secret = PREFIX + base64.b64encode(random).decode()
    secret_bytes(secret)
    return secret


_PLAIN = re.compile(r"[!-\-/-~]{1,400}")
"""Visible ASCII without a full stop."""


def webhook_id(event_id: str) -> str:
    """The header `webhook-id` of an event: its id, or an id derived from it where a producer chose one that no header or signature can hold,
    with a full stop for example. Repeats of an event have the same."""
    return event_id if _PLAIN.fullmatch(event_id) else derived(event_id, "webhook-id")


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`: `v1,` and the base64 HMAC over `id.timestamp.body`. `timestamp` is in Unix seconds."""
    if "." in message_id:
        raise ValueError("message id: must not hold a full stop")
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(secret_bytes(secret), signed, hashlib.sha256).digest()).decode()
