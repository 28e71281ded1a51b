"""Closes Kafka clients in a bounded time: without a broker, aiokafka waits 40 s for the answer to its goodbye, or ends in an exception."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final

from aiokafka.errors import KafkaError

log = logging.getLogger(__name__)
CLOSE_S: Final = 10.0
MOMENT_S: Final = 0.2


async def close_clients(*closings: Coroutine[Any, Any, Any], limit_s: float = CLOSE_S) -> None:
    """Run `closings` one after the other, `limit_s` seconds in all and a moment for each. What Kafka answers is logged, and not raised."""
    ends_at = asyncio.get_running_loop().time() + limit_s
    for closing in closings:
        # A task of its own: one that aiokafka cancels must not look like a cancellation of the program.
        task = asyncio.ensure_future(closing)
        _, late = await asyncio.wait({task}, timeout=max(ends_at - asyncio.get_running_loop().time(), MOMENT_S))
        if late:
            log.warning("a Kafka client is closed without an answer of Kafka")
            task.cancel()
            await asyncio.wait({task}, timeout=MOMENT_S)
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            if not isinstance(error, KafkaError):
                raise error
            log.warning("a Kafka client was not closed cleanly: %r", error)
