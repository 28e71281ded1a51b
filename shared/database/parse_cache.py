"""What was lately made of a text: whoever reads the same text of the same thing again need not make it again.

For rows that a service writes and soon reads again. What another replica wrote, or a transaction that came to nothing, has another text.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class Recent(Generic[V]):
    """Key → the last text of it and its value, of `most` keys. Values must never change. Texts of more than `largest` characters are not
    kept, so the memory has a bound."""

    def __init__(self, most: int, largest: int) -> None:
        self.most = most
        self.largest = largest
        self._lock = threading.Lock()
        self._kept: dict[Hashable, tuple[str, V]] = {}

    def get(self, key: Hashable, text: str) -> V | None:
        """The value, if `text` is what it was kept with; else None."""
        known = self._kept.get(key)
        return known[1] if known is not None and known[0] == text else None

    def holds(self, key: Hashable, value: V) -> bool:
        """True when this very value is what is kept of the key."""
        known = self._kept.get(key)
        return known is not None and known[1] is value

    def keep(self, key: Hashable, text: str, value: V) -> None:
        """`value` is what is made of `text`."""
        with self._lock:
            self._kept.pop(key, None)
            if len(text) <= self.largest:
                self._kept[key] = text, value
            if len(self._kept) > self.most:
                del self._kept[next(iter(self._kept))]
