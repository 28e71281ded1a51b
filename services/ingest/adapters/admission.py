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
from shared.objects.object_store import TenantObjects

STEP = 4 << 20
"""Bytes by which the reservation of a body of unknown size grows."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """An object that is claimed for a file."""

    blob: str
    counted: int | None
    """Bytes that were counted for it; None when an earlier request has counted them."""
    new: bool
    """False when an earlier request has claimed it, whose file may have been accepted."""


@dataclass
class Admission:
    """The places of one request. `new` are those that it reserved itself and that are not settled."""

    gateway: Gateway
    tenant: str
    new: set[str]
    published: bool = False
    """Set it before a job's command is sent: from then on only a refusal releases the places."""
    sent: set[str] = field(default_factory=set)
    """Add a file's id before a command names the file: from then on only a refusal drops its claim."""
    claimed: dict[str, Claimed] = field(default_factory=dict)
    """File id → its object, until the file is accepted or refused."""

    async def add(self, places: Sequence[Place]) -> None:
        """Reserve further places. Raises `OverLimit`."""
        self.new |= await self.gateway.limits.reserve(self.tenant, places)

    async def release(self, file_id: str | None = None) -> None:
        """What was asked for was refused: give the places back, or those of one file, and let its objects be deleted."""
        claims = {f: c for f, c in self.claimed.items() if file_id in (None, f)}
        new = self.new if file_id is None else self.new & {file_id}
        self.new = self.new - new

        def undo(c: Connection) -> None:
            now = clock.unix()
            reservations.release(c, self.tenant, new)
            for name, claim in claims.items():
                if claim.counted is not None:
                    reservations.count(c, self.tenant, -1, -claim.counted, now)
                if claim.new:
                    object_claims.unclaim(c, claim.blob, name, now)

        for name in claims:
            del self.claimed[name]
        if claims or new:
            await self.gateway.store.transact(undo)
        if claims:
            self.gateway.deletion_wake.set()

    async def fail(self) -> None:
        """An error ended the request. A file whose command may have been sent keeps its object, but costs nothing."""
        sent = [name for name in self.claimed if self.published or name in self.sent]
        sizes = [size for name in sent if (size := self.claimed.pop(name).counted) is not None]
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

    def objects(self, file_id: str, counted_bytes: int | None = None) -> TenantObjects:
        """The objects of the tenant, for the content of one file. Before it gets its name it is counted (as `counted_bytes`, by default its
        size), once for the file's id, and kept from being deleted. Call `accept` or `release` after the answer.

        Storing raises `OverLimit` too, and `Retry` when the deletion of an equal object does not end.
        """

        async def claim(blob: str, size: int) -> None:
            await self._claim(file_id, blob, size if counted_bytes is None else counted_bytes)

        return self.gateway.objects.of(self.tenant).announcing(claim)

    def uncounted_objects(self, file_id: str) -> TenantObjects:
        """As `objects`, for content that is counted elsewhere."""

        async def claim(blob: str, size: int) -> None:
            found = await self.gateway.store.transact(lambda c: object_claims.claim(c, blob, file_id, clock.unix()))
            self.claimed[file_id] = Claimed(blob, None, found.new)
            if not found.free:
                await self.gateway.await_deletion(blob)

        return self.gateway.objects.of(self.tenant).announcing(claim)

    async def _claim(self, file_id: str, blob: str, size: int) -> None:
        if file_id not in self.new:
            await self.add([Place(file_id, files=1, bytes=size)])
        claimed = await self.gateway.store.transact(
            lambda c: object_claims.claim_and_count(c, self.tenant, blob, file_id, size, clock.unix())
        )
        self.new.discard(file_id)
        self.claimed[file_id] = Claimed(blob, size if claimed.counted else None, claimed.new)
        if not claimed.free:
            await self.gateway.await_deletion(blob)

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
