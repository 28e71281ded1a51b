"""Passwords of users: hashed and verified by Argon2id, off the event loop."""

from __future__ import annotations

import asyncio

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

HASHER = PasswordHasher()
"""Argon2id with the library's parameters (RFC 9106, low-memory profile)."""
NO_PASSWORD = HASHER.hash("a password that no user has")
"""Verified for unknown users, so that the answer takes as long as for known ones."""
_CONCURRENT = asyncio.Semaphore(2)
"""Each check needs 64 MiB and a core."""


async def hash_password(password: str) -> str:
    """The Argon2id hash to store."""
    async with _CONCURRENT:
        return await asyncio.to_thread(HASHER.hash, password)


async def matches(password_hash: str, password: str) -> bool:
    """True when `password` is the one that was hashed."""

    def check() -> bool:
        try:
            return HASHER.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False

    async with _CONCURRENT:
        return await asyncio.to_thread(check)
