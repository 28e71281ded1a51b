"""Says that this worker is there and what it takes: how anybody can know that nobody does an action."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from contracts import WorkerSeen, to_record
from contracts.topics import STAGE_WORKERS_TOPIC
from shared import clock
from shared.errors import Retry
from shared.kafka.outgoing import Outgoing
from shared.processing.outbox import Relay

log = logging.getLogger(__name__)
EVERY_S = 10.0


class Presence:
    """One per worker process. `slots`: how many tasks it runs at a time."""

    def __init__(self, relay: Relay, worker: str, actions: Sequence[str], slots: int) -> None:
        self.relay = relay
        self.worker = worker
        self.actions = tuple(actions)
        self.slots = slots

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._say()
            await asyncio.sleep(EVERY_S)

    async def leave(self) -> None:
        """It takes nothing any more."""
        await self._say(leaving=True)

    async def _say(self, leaving: bool = False) -> None:
        seen = WorkerSeen(worker=self.worker, actions=self.actions, slots=self.slots, leaving=leaving, seen_at=clock.now())
        record = to_record(seen, "/stageline/stage_worker", ())
        try:
            await self.relay.send_records([Outgoing(STAGE_WORKERS_TOPIC.name, record.key, record.value, record.headers)])
        except Retry as error:
            log.warning("not said that this worker is here", extra={"code": error.code, "reason": str(error)})
