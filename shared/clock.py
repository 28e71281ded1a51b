"""The only clock and the only source of new roots in the shell; cores get both as arguments."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import uuid_utils


def now() -> datetime:
    """Wall clock, UTC."""
    return datetime.now(UTC)


def unix() -> float:
    """Wall clock in Unix seconds: what timers in stores are compared with."""
    return time.time()


def new_root() -> str:
    """A new UUIDv7 (RFC 9562): for what has no cause inside the system, e.g. a request."""
    return str(uuid_utils.uuid7())
