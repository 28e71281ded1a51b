"""What a key looks like and what is kept of it: a prefix that scanners know, random bits, a checksum; only its hash is stored."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import zlib


def new_key() -> str:
    """`sl_` + 43 characters of 256 random bits + CRC-32 in hex, so that scanners recognise it and typos are caught."""
    body = secrets.token_urlsafe(32)
    return f"sl_{body}{zlib.crc32(body.encode()):08x}"


def well_formed(key: str) -> bool:
    """True when prefix and checksum are right; says nothing about whether the key is known."""
    body, checksum = key[3:-8], key[-8:]
    expected = f"{zlib.crc32(body.encode()):08x}"
    return key.startswith("sl_") and hmac.compare_digest(expected.encode(), checksum.encode("utf-8", "replace"))


def key_hash(key: str) -> str:
    """What is kept of a key: SHA-256, hex."""
    return hashlib.sha256(key.encode()).hexdigest()
