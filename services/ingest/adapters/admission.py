"""Admission of what a request stores or starts: places are reserved before, counted after, and released when nothing came of it.

async with admit(gateway, who.tenant_id, [job_place(job_id)]) as admission:
    admission.published = True
    await gateway.publisher.publish_command(...)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy import Connection

from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store import object_claims, reservations
from services.ingest.adapters.store.quotas import OverLimit
from services.ingest.adapters.store.reservations import HOLD_S, Place
from shared import clock
from shared.objects.object_store import StoredObject

STEP = 4 << 20
"""Bytes by which the reservation of a body of unknown size grows."""


@dataclass
class Admission:
    """The places of one request. `new` are those that it reserved itself and that are not settled."""

    gateway: Gateway
    tenant: str
    new: set[str]
    published: bool = False
    """Set it before a job's command is sent: from then on only a refusal releases the places."""
    received: list[str] = field(default_factory=list)
    """Objects that the request has stored and that no file names yet."""
    claimed: dict[str, tuple[str, int]] = field(default_factory=dict)
    """File id → its object, and the bytes counted for it (-1: nothing), until the file is accepted or refused."""

    async def add(self, places: Sequence[Place]) -> None:
        """Reserve further places. Raises `OverLimit`."""
        self.new |= await self.gateway.limits.reserve(self.tenant, places)

    async def release(self, file_id: str | None = None) -> None:
        """What was asked for was refused: give the places back, or those of one file, and let its objects be deleted."""
        claims = {f: c for f, c in self.claimed.items() if file_id in (None, f)}
        dropped, self.received = self.received, []
        new = self.new if file_id is None else self.new & {file_id}
        self.new = self.new - new

        def undo(c: Connection) -> None:
            now = clock.unix()
            reservations.release(c, self.tenant, new)
            for name, (blob, size) in claims.items():
                if size >= 0:
                    reservations.count(c, self.tenant, -1, -size, now)
                object_claims.unclaim(c, blob, name, now)
            object_claims.doom(c, dropped, now)

        for name in claims:
            del self.claimed[name]
        if claims or dropped or new:
            await self.gateway.store.transact(undo)
        if claims or dropped:
            self.gateway.deletion_wake.set()

    async def fail(self) -> None:
        """An error ended the request. A file whose command may have been sent keeps its object, but costs nothing."""
        claims, self.claimed = self.claimed, {}
        sizes = [size for _, size in claims.values() if size >= 0]
        if sizes:
            count = partial(reservations.count, tenant=self.tenant, files=-len(sizes), size=-sum(sizes), now=clock.unix())
            await self.gateway.store.transact(count)
        if not self.published:
            await self.release()

    async def metered(self, place_id: str, reserved: int, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The chunks of a body. Past `reserved` bytes its reservation grows first. Raises `OverLimit`."""
        total = 0
        async for chunk in chunks:
            total += len(chunk)
            if total > reserved:
                reserved = await self._grow(place_id, total)
            yield chunk

    async def _grow(self, place_id: str, total: int) -> int:
        limits = self.gateway.limits
        try:
            await limits.grow(self.tenant, place_id, total + STEP)
        except OverLimit:
            await limits.grow(self.tenant, place_id, total)
            return total
        return total + STEP

    async def store_file(self, file_id: str, stored: StoredObject, counted_bytes: int | None = None) -> None:
        """Count a stored file (as `counted_bytes`, by default its size), once for its id, and keep its object from being deleted. Call it before a command names the object, and
        `accept` or `release` after the answer.

        Raises `OverLimit`, and `Retry` when the object was deleted at this moment: the upload must be repeated.
        """
        size = stored.size if counted_bytes is None else counted_bytes
        if stored.name not in self.received:
            self.received.append(stored.name)
        if file_id not in self.new:
            await self.add([Place(file_id, files=1, bytes=size)])
        safe, counted = await self.gateway.store.transact(
            lambda c: object_claims.claim_and_count(c, self.tenant, stored.name, file_id, size, clock.unix())
        )
        self.received.remove(stored.name)
        self.new.discard(file_id)
        self.claimed[file_id] = (stored.name, size if counted else -1)
        if not safe:
            await self.gateway.await_deletion(stored.name)

    def accept(self, file_id: str) -> None:
        """The file is part of its session."""
        self.claimed.pop(file_id, None)


@asynccontextmanager
async def admit(gateway: Gateway, tenant: str, places: Sequence[Place], hold_s: float = HOLD_S) -> AsyncIterator[Admission]:
    """Reserve places for the block. Raises `OverLimit`. An error before `published` releases them; so does `release`.

    What stays reserved ends when the job is in the read model, the file is stored, or `hold_s` seconds are over.
    """
    admission = Admission(gateway, tenant, await gateway.limits.reserve(tenant, places, hold_s))
    try:
        yield admission
    except BaseException:
        await admission.fail()
        raise
