"""Whether a dependency of this process works. A failure is logged when it begins, again when its reason changes, and when it ends."""

from __future__ import annotations

import errno
import logging
import shutil
import time
from pathlib import Path

from contracts.public_text import public_text

log = logging.getLogger(__name__)
LEAST_FREE_BYTES = 8 << 20
"""A disk with less free space counts as full: the next write of a few files would fill it."""
_WORDS = (
    ("disk full", ("no space left", "disk is full", "disk full", "quota exceeded", f"os error {errno.ENOSPC})", "could not extend file")),
    ("read-only", ("read-only", "readonly", "read only")),
    ("locked", ("is locked", "lock timeout", "lock_timeout")),
    ("no permission", ("permission denied", "access denied", "forbidden", "insufficient privilege")),
)  # fmt: skip
"""What an operator can act upon → texts by which SQLite, PostgreSQL, the operating system and object stores say it."""


def word_of(text: str) -> str:
    """`disk full`, `read-only`, `locked`, `no permission`, or `away` for every other error text of a store."""
    lower = text.lower()
    return next((word for word, signs in _WORDS if any(sign in lower for sign in signs)), "away")


class Availability:
    """One dependency, by its `name` in health reports and logs. A success of a read does not end a failure of writes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.reason: str | None = None
        """Why it does not work, for an operator and without paths; None while it works."""
        self._since = 0.0
        self._writing = False
        self._full = False

    def failed(self, error: str, writing: bool = True) -> None:
        """An operation failed with this error text."""
        word, before = word_of(error), self.reason
        self.reason = f"{word}: {public_text(error)}"[:500]
        self._writing = writing or (before is not None and self._writing)
        if before is None:
            self._since = time.monotonic()
        if before is None or before.partition(":")[0] != word:
            log.error("the %s does not work: %s", self.name, word, extra={"dependency": self.name, "reason": error[:1000]})

    def worked(self, writing: bool) -> None:
        """An operation succeeded. On a full disk small writes may still do."""
        if self.reason is None or self._full or (self._writing and not writing):
            return
        self.reason, self._writing = None, False
        away_s = round(time.monotonic() - self._since, 1)
        log.warning("the %s works again", self.name, extra={"dependency": self.name, "after_s": away_s})

    def check_space(self, folder: Path) -> bool:
        """False, and a failure, when the disk of `folder` is full. Raises `OSError`."""
        free = shutil.disk_usage(folder).free
        self._full = free < LEAST_FREE_BYTES
        if self._full:
            self.failed(f"No space left on device: {free} bytes are free")
        return not self._full
