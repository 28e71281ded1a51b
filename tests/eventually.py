"""Waits for a condition instead of a fixed time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(look: Callable[[], Awaitable[T]], timeout_s: float = 30.0, every_s: float = 0.05) -> T:
    """The first truthy value of `look()`. Fails with the last value after the timeout."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = await look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"condition did not hold within {timeout_s} s; last value: {found!r}")
        await asyncio.sleep(every_s)
