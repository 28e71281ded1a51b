"""Seals secrets of tenants with a key that the gateway and the workers hold: AES-256-GCM, bound to tenant, name and origins."""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared.errors import Stop

KEY_BYTES, NONCE_BYTES = 32, 12


def new_box_key() -> str:
    """A new key as the text of its file."""
    return base64.b64encode(os.urandom(KEY_BYTES)).decode()


class SecretBox:
    """Seals and opens secrets. Raises `Stop` for a key of another length."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise Stop("secrets_key", f"the key to seal secrets has {len(key)} bytes; {KEY_BYTES} are expected")
        self._cipher = AESGCM(key)

    @classmethod
    def from_file(cls, path: Path | None) -> SecretBox | None:
        """The box with the key in a file; None without a file. Raises `Stop` for a file that cannot be read or holds no key."""
        if path is None:
            return None
        try:
            return cls(base64.b64decode(path.read_text().strip(), validate=True))
        except (OSError, ValueError) as error:
            raise Stop("secrets_key", f"{path}: {error}") from error

    def seal(self, tenant: str, name: str, origins: Sequence[str], value: str) -> str:
        """The sealed form of `value`, for this tenant, name and these origins alone."""
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, value.encode(), _bound_to(tenant, name, origins))
        return base64.b64encode(nonce + sealed).decode()

    def reveal(self, tenant: str, name: str, origins: Sequence[str], sealed: str) -> str:
        """The value. Raises `ValueError` when it was sealed with another key, or for another tenant, name or origins."""
        try:
            raw = base64.b64decode(sealed, validate=True)
            return self._cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], _bound_to(tenant, name, origins)).decode()
        except (binascii.Error, InvalidTag, ValueError):
            raise ValueError(f"secret {name} was sealed with another key") from None


def _bound_to(tenant: str, name: str, origins: Sequence[str]) -> bytes:
    return json.dumps([tenant, name, list(origins)]).encode()
