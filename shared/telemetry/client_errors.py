"""Kafka clients log an error for each attempt that they repeat by themselves. Here such attempts become one warning, and errors when they last."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

PATIENCE_S = 60.0
"""As long as a start waits for its cluster. What lasts longer is an error."""
QUIET_S = 10.0
"""Without the line for so long, the next one is of another trouble."""
WITHOUT_REASON = ("Unable to update metadata from %s", "Topic %s not found in cluster metadata")
"""Lines about such attempts that do not name their error."""


@dataclass
class _Trouble:
    """One kind of line: its first and its last time."""

    since: float
    last: float


class RepeatedAttempts(logging.Filter):
    """Passes the first line about an error that may pass, as a warning, and again as it is when the error has lasted `PATIENCE_S`.

    Kafka says which errors may pass (`retriable`). All other lines pass as they are.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.clock = clock
        self._troubles: dict[str, _Trouble] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """False for a line that is left out."""
        if not _may_pass(record):
            return True
        now = self.clock()
        kind = f"{record.name} {record.msg}"
        trouble = self._troubles.get(kind)
        if trouble is None or now - trouble.last > QUIET_S:
            self._troubles[kind] = _Trouble(now, now)
            if record.levelno > logging.WARNING:
                record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
            return True
        trouble.last = now
        return now - trouble.since > PATIENCE_S


def _may_pass(record: logging.LogRecord) -> bool:
    arguments = record.args if isinstance(record.args, tuple) else ()
    named = any(isinstance(argument, OSError) or getattr(argument, "retriable", False) is True for argument in arguments)
    return named or record.msg in WITHOUT_REASON
