"""Limits of open connections: in one process, and of one address. One more gets 503 and is closed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from shared.web.client_address import client_address

REFUSED_AT_ONCE = 128
"""Connections that wait for their refusal. Beyond them a connection is closed without an answer."""


@dataclass
class ConnectionLimit:
    """Counts the open connections of a process. An address has `per_address` of them, and all together `total`."""

    total: int
    per_address: int
    refusing: int = 0
    _open: Counter[str] = field(default_factory=Counter)

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return self._open.total()

    def take(self, client: tuple[str, int] | None) -> str | None:
        """Count a connection. Returns what `release` needs, or None when it is one too many."""
        address = client_address({"client": client})
        if self._open[address] >= self.per_address or self.open >= self.total:
            return None
        self._open[address] += 1
        return address

    def release(self, address: str) -> None:
        """Count a connection's end."""
        self._open[address] -= 1
        if self._open[address] <= 0:
            del self._open[address]
