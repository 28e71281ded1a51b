"""Limits the requests that one caller holds at once: waits, event streams, sockets. No caller takes the places of all others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from shared.web.api_keys import Principal

RETRY_AFTER_S = 5


class TooMany(Exception):
    """A limit is reached. `status` is 429 for a limit of the caller, 503 for the limit of all callers."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = "over_limit" if status == 429 else "overloaded"


@dataclass
class HeldRequests:
    """Counts what is held in this process: in total, by tenant and by key. `what` names it in error texts, in the plural."""

    what: str
    total: int
    per_tenant: int
    per_key: int
    _held: Counter[tuple[str, ...]] = field(default_factory=Counter)

    def take(self, tenant: str, key: str = "") -> None:
        """Count one more, of a tenant and one of its keys. Raises `TooMany`. Call `release` once for every `take` that did not raise."""
        subjects = _subjects(tenant, key)
        for subject, most, whose in zip(
            subjects, (self.total, self.per_tenant, self.per_key), ("", "tenant", "key"), strict=False
        ):
            if self._held[subject] >= most:
                held = f"{most} {self.what} are open" + (f" for this {whose}" if whose else "")
                raise TooMany(429 if whose else 503, f"{held}, which is the limit.")
        self._held.update(subjects)

    def release(self, tenant: str, key: str = "") -> None:
        """Count one less."""
        for subject in _subjects(tenant, key):
            self._held[subject] -= 1
            if self._held[subject] <= 0:
                # Callers that left take no memory.
                del self._held[subject]

    @contextmanager
    def hold(self, tenant: str, key: str = "") -> Iterator[None]:
        """Count one more during a `with` block. Raises `TooMany`."""
        self.take(tenant, key)
        try:
            yield
        finally:
            self.release(tenant, key)


def _subjects(tenant: str, key: str) -> list[tuple[str, ...]]:
    """What is counted: everything, the tenant and, if it is known, the key."""
    return [(), (tenant,), (tenant, key)] if key else [(), (tenant,)]


def key_of(principal: Principal) -> str:
    """What stands for the caller's key: its hash, or the caller's name where there is no key."""
    return principal.credential or principal.tenancy.user_name
