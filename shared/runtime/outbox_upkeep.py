"""Sends what is left in the outbox when no batch comes, and what Kafka refused before; makes missing topics again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from aiokafka.errors import KafkaError

from shared.errors import Retry
from shared.processing.processor import BatchProcessor
from shared.runtime.health import Health

log = logging.getLogger(__name__)
EVERY_S = 5.0
HELD_BACK: Final = "held_back"
"""Where `GET /health/ready` shows what Kafka refuses."""


class OutboxUpkeep:
    """One per process with a database. `make_topics` creates the topics of these names, as far as this service may."""

    def __init__(
        self, processor: BatchProcessor, health: Health, make_topics: Callable[[Collection[str]], Awaitable[None]]
    ) -> None:
        self.processor = processor
        self.health = health
        self.make_topics = make_topics

    async def run(self) -> None:
        """Look every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            await self.tidy()

    async def tidy(self) -> None:
        """Publish rows that are left, then what was held back. An outage is logged, and tried again the next time."""
        relay = self.processor.relay
        relay.sweep()
        try:
            # The next batch deletes published rows and publishes those left behind. When no batch comes, this does.
            await self.processor.flush_outbox()
            if relay.held.topics:
                await self._release()
        except Retry as error:
            log.warning("outbox will be retried", extra={"code": error.code, "reason": str(error)})
        except KafkaError as error:
            log.warning("outbox will be retried", extra={"code": "kafka_unavailable", "reason": repr(error)})
        # The process goes on, so that this makes nothing unhealthy.
        self.health.details.pop(HELD_BACK, None)
        if relay.held.topics:
            self.health.details[HELD_BACK] = relay.held.facts()

    async def _release(self) -> None:
        relay = self.processor.relay
        existing = await relay.batches.existing_topics()
        missing = relay.held.topics.keys() - existing
        if missing:
            try:
                await self.make_topics(missing)
            except KafkaError as error:
                log.warning("missing topics could not be made", extra={"topics": sorted(missing), "reason": repr(error)})
            existing = await relay.batches.existing_topics()
        await self.processor.release_held(existing)
