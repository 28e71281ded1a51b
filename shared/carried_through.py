"""Work that goes on to its end when the side that waits for it is cancelled, and whose failure is then told in a sentence."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

log = logging.getLogger(__name__)
T = TypeVar("T")


async def carried_through(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` in a task of its own; returns its result and raises its error. A cancelled caller leaves it running."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(told)
        raise


def told(task: asyncio.Future[Any]) -> None:
    """Callback for a task that nothing awaits: its failure becomes one warning."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("work that nothing waits for failed", extra={"reason": repr(error)})
