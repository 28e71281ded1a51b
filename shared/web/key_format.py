"""Format of an API key: a prefix that secret scanners recognise, random bits and a checksum. Only its hash is stored."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import zlib


def new_key() -> str:
    """A new key: `sl_`, 43 characters for 256 random bits, and their CRC-32 as 8 hexadecimal digits."""
    body = secrets.token_urlsafe(32)
    return f"sl_{body}{zlib.crc32(body.encode()):08x}"


def well_formed(key: str) -> bool:
    """True when prefix and checksum are right. The key may still be unknown."""
    body, checksum = key[3:-8], key[-8:]
    expected = f"{zlib.crc32(body.encode()):08x}"
    return key.startswith("sl_") and hmac.compare_digest(expected.encode(), checksum.encode("utf-8", "replace"))


def key_hash(key: str) -> str:
    """What is stored of a key: its SHA-256 as hexadecimal digits."""
    return hashlib.sha256(key.encode()).hexdigest()
