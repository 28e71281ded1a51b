"""Deletes objects that nothing needs any more: of erased jobs, of refused uploads, and what the collector found."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

from sqlalchemy import text

from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store import object_claims
from shared import clock
from shared.errors import Retry
from shared.runtime.row_loop import EventWake, RowLoop

log = logging.getLogger(__name__)
PAGE = 400
PAUSE_S = 1.0
"""Between two looks: every commit asks for one, and few of them erase anything."""
MOST_S = object_claims.LEASE_S / 2
"""Seconds after the start of its lease in which an object is deleted, or not at all this time."""
CLOCKS_S = 2.0
"""Seconds by which the clock of the object store may be ahead of ours."""


@dataclass(frozen=True, slots=True)
class Doomed:
    """An object to delete, and when it was found unneeded (Unix seconds)."""

    blob: str
    tenant_id: str
    at: float
    attempts: int


class ObjectDeletion:
    """Deletes several objects at once, tenants in turn. One that cannot be deleted is tried again later and delays no other."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.changed = False
        gateway.processor.after_commit.append(gateway.deletion_wake.set)
        wake = EventWake(gateway.deletion_wake, PAUSE_S)
        self.loop = RowLoop("deletion of objects", self._due, self.delete, self._later, wake, "blob")

    async def run(self) -> None:
        """Run until cancelled."""
        await self.gateway.store.transact(lambda c: object_claims.take_over(c, clock.unix()))
        await self.loop.run()

    async def _due(self) -> Sequence[Doomed]:
        rows = await self.gateway.store.read(lambda c: object_claims.due(c, clock.unix(), PAGE))
        if not rows and self.changed:
            self.changed = False
            await self._forget_words()
        return in_turns([Doomed(r.blob, r.blob.partition("/")[0], r.at, r.attempts) for r in rows])

    async def delete(self, row: Doomed) -> None:
        """Delete one object, unless something needs it, or it was written again after it was found unneeded."""
        store, objects = self.gateway.store, self.gateway.objects
        leased = clock.unix()
        if not await store.transact(lambda c: object_claims.lease(c, row.blob, leased)):
            return
        # An upload of equal content takes the object for safe when the lease has ended, so nothing may be deleted after that: not by a
        # slow store, and not by a process that was stopped meanwhile.
        try:
            async with asyncio.timeout(MOST_S):
                written = await objects.written_at(row.blob)
                if clock.unix() - leased > MOST_S:
                    raise TimeoutError
                if written is None or written <= row.at + CLOCKS_S:
                    await objects.delete_unneeded(row.blob)
                    self.changed = True
        except TimeoutError:
            raise Retry("objects_slow", f"an object was not deleted within {MOST_S:.0f} s") from None
        await store.transact(lambda c: object_claims.deleted(c, row.blob))

    async def _later(self, row: Doomed) -> None:
        await self.gateway.store.transact(lambda c: object_claims.try_later(c, row.blob, row.attempts + 1, clock.unix()))

    async def _forget_words(self) -> None:
        if not self.gateway.store.shared and sqlite3.sqlite_version_info < (3, 42):
            # Without `secure-delete` (see the migration) the index keeps deleted words until its segments are merged.
            await self.gateway.store.transact(
                lambda c: c.execute(text("INSERT INTO search (search) VALUES ('optimize')")) and None
            )


def in_turns(rows: Sequence[Any]) -> list[Any]:
    """The first row of each tenant, then the second of each, and so on."""
    by_tenant: dict[str, list[Any]] = {}
    for row in rows:
        by_tenant.setdefault(row.tenant_id, []).append(row)
    return [row for row in chain.from_iterable(zip_longest(*by_tenant.values())) if row is not None]
