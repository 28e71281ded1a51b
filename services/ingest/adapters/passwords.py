"""Passwords of users: hashed and verified by Argon2id, off the event loop, with a bounded number of callers that wait."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from shared.errors import Retry

T = TypeVar("T")
HASHER = PasswordHasher()
"""Argon2id with the library's parameters (RFC 9106, low-memory profile)."""
NO_PASSWORD = HASHER.hash("a password that no user has")
"""Verified for unknown users, so that the answer takes as long as for known ones."""
CONCURRENT = 2
"""Each check needs 64 MiB and a core."""
MOST_PER_SOURCE = 4
"""Places that one address may hold, so that it does not fill the queue alone."""


class Passwords:
    """Hashes and verifies. `most` callers have a place at a time; half of the places are kept for callers that are known."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._running = asyncio.Semaphore(CONCURRENT)
        self._places: Counter[str] = Counter()

    @contextlib.contextmanager
    def place(self, source: str, known: bool) -> Iterator[None]:
        """A place in the queue, for the time of the block. Raises `Retry` when there is none for this caller."""
        taken = self._places.total()
        if taken >= (self.most if known else (self.most + 1) // 2) or self._places[source] >= MOST_PER_SOURCE:
            raise Retry("passwords_busy", f"{taken} passwords are being checked")
        self._places[source] += 1
        try:
            yield
        finally:
            self._places[source] -= 1
            if not self._places[source]:
                del self._places[source]

    async def hash_password(self, password: str) -> str:
        """The Argon2id hash to store."""
        return await self._run(lambda: HASHER.hash(password))

    async def matches(self, password_hash: str, password: str) -> bool:
        """True when `password` is the one that was hashed."""

        def check() -> bool:
            try:
                return HASHER.verify(password_hash, password)
            except (VerificationError, InvalidHashError):
                return False

        return await self._run(check)

    async def _run(self, work: Callable[[], T]) -> T:
        async with self._running:
            return await asyncio.to_thread(work)
