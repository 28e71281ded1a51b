"""Standard Webhooks 1.0.0 signatures (`v1`, HMAC-SHA256). Our own: the official package signs a wrong time for some zones."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

PREFIX = "whsec_"


def secret_bytes(secret: str) -> bytes:
    """Key of a `whsec_…` secret. Raises `ValueError` saying what is wrong with it."""
    try:
        raw = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("secret: base64 after `whsec_` is expected") from None
    if not 24 <= len(raw) <= 64:
        raise ValueError(f"secret: 24 to 64 bytes are expected, not {len(raw)}")
    return raw


def new_secret(random: bytes) -> str:
    """A secret of the given random bytes (24 to 64 of them)."""
    secret = PREFIX + base64.b64encode(random).decode()
    secret_bytes(secret)
    return secret


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """`webhook-signature` for an attempt at `timestamp` (Unix seconds): `v1,` + base64 over `id.timestamp.body`."""
    if "." in message_id:
        raise ValueError("message id: must not hold a full stop")
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(secret_bytes(secret), signed, hashlib.sha256).digest()).decode()
