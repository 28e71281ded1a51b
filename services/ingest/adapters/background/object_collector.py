"""Collects objects that nothing refers to after a day: of refused uploads, of attempts that failed, of processes that died.

The gateway knows what its files need. What the results of running and ended jobs need only the orchestrator knows, so it is asked
(`FindReferences`) before anything is deleted. Without its answer everything stays.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta

from sqlalchemy import Connection, text

from contracts import FindReferences, Tenancy
from contracts.ownership import CONTENT, INCOMING
from contracts.topics import command_topic
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store import object_claims, row_turns, uploads
from shared import clock
from shared.errors import Retry

log = logging.getLogger(__name__)
FIRST_S, EVERY_S = 900.0, 3 * 3600.0
"""The read model has caught up by the first round."""
AGE = timedelta(days=1)
QUESTION = 2000
"""Objects in one question."""
ANSWER_S = 3600.0
POLL_S = 2.0
KIND = "collector"
_ANSWER = text("SELECT body FROM decision WHERE command_id = :i")


class ObjectCollector:
    """One round at a time, by one replica."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    async def run(self) -> None:
        """Run until cancelled. What a killed gateway has left under `INCOMING` goes at the start: the gateway's own rows alone name it."""
        await self._try(self.collect_incoming)
        await asyncio.sleep(FIRST_S)
        while True:
            await self._try(self._collect_in_turn)
            await asyncio.sleep(EVERY_S / 6)

    async def _try(self, collect: Callable[[], Awaitable[object]]) -> None:
        try:
            await collect()
        except Retry as error:
            log.warning("collection of objects ended early", extra={"code": error.code, "reason": str(error)})

    async def _collect_in_turn(self) -> None:
        now = clock.unix()
        if await self.gateway.store.transact(lambda c: row_turns.claim(c, KIND, "objects", now, now + EVERY_S)):
            await self.collect()

    async def collect_incoming(self) -> None:
        """Delete what is a day old under `INCOMING` and belongs to no upload."""
        store, objects, before = self.gateway.store, self.gateway.objects, clock.now() - AGE
        await objects.delete_torn(before)
        async for names in objects.stale_pages(before, INCOMING):
            needed = await store.read(lambda c, part=names: uploads.needed(c, part))  # type: ignore[misc]
            await self.gateway.discard_objects([name for name in names if name not in needed])

    async def collect(self) -> int:
        """One round over all objects. Returns how many were noted for deletion."""
        store, objects, before = self.gateway.store, self.gateway.objects, clock.now() - AGE
        await self.collect_incoming()
        found, unsure = 0, list[str]()
        async for names in objects.stale_pages(before):
            # Names that are not those of content were made by nobody that this service knows, and stay.
            unsure += await self._unneeded(name for name in names if CONTENT.fullmatch(name))
            while len(unsure) >= QUESTION:
                found += await self._doom(unsure[:QUESTION])
                del unsure[:QUESTION]
        found += await self._doom(unsure) if unsure else 0
        await store.transact(_tidy)
        return found

    async def _unneeded(self, names: Iterable[str]) -> list[str]:
        """Those that no row of the gateway names."""
        listed = list(names)
        needed = await self.gateway.store.read(lambda c: object_claims.needed(c, listed, clock.unix()))
        return [name for name in listed if name not in needed]

    async def _doom(self, names: Sequence[str]) -> int:
        """Note for deletion what the orchestrator does not need either. Returns how many."""
        referenced = await self._ask(names)
        if referenced is None:
            log.warning("nobody answered which objects jobs refer to; they are kept", extra={"count": len(names)})
            return 0
        free = [name for name in names if name not in referenced]
        await self.gateway.store.transact(lambda c: object_claims.doom(c, free, clock.unix()))
        return len(free)

    async def _ask(self, names: Sequence[str]) -> set[str] | None:
        owner = Tenancy(tenant_id="default", user_name="collector")
        question = FindReferences(command_id=clock.new_root(), owner=owner, issued_at=clock.now(), blobs=tuple(names))
        await self.gateway.publisher.publish_command(command_topic(question).name, question, None)
        # Not as a request waits: the orchestrator looks through all its jobs, which may take minutes.
        for _ in range(int(ANSWER_S / POLL_S)):
            body = await self.gateway.store.read(lambda c: c.execute(_ANSWER, {"i": question.command_id}).scalar())
            if body is not None:
                return set(json.loads(body)["blobs"])
            await asyncio.sleep(POLL_S)
        return None


def _tidy(connection: Connection) -> None:
    object_claims.forget_old_claims(connection, clock.unix())
    row_turns.forget_old(connection, clock.unix())
