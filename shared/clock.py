"""The only clock and the only source of new ids. Cores get both as arguments."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import uuid_utils


def now() -> datetime:
    """The current time in UTC."""
    return datetime.now(UTC)


def unix() -> float:
    """The current time in Unix seconds, as timers are stored."""
    return time.time()


def new_root() -> str:
    """A new UUIDv7 (RFC 9562), for a cause from outside such as a request. Consequences get ids by `contracts.derived`."""
    return str(uuid_utils.uuid7())
