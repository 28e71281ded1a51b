"""Quotas of tenants: requests per minute over all replicas; what is stored and started is reserved in `reservations.py`."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, text
from sqlmodel import Field, SQLModel

from services.ingest.adapters.store import reservations
from services.ingest.adapters.store.reservations import HOLD_S, Place, limits
from services.ingest.adapters.store.reservations import OverLimit as OverLimit
from services.ingest.settings import IngestSettings
from shared import clock
from shared.database.store import Store

QUOTAS_STALE_S = 5.0
"""Longest time that a process uses quotas it has read."""
MINUTE_S = 60
MAX_TENANTS = 10_000


class RateRow(SQLModel, table=True):
    """Requests of a subject in a minute. Processes take them in blocks."""

    __tablename__ = "rate_window"
    subject: str = Field(primary_key=True)
    minute: int = Field(primary_key=True)
    taken: int


MODELS: tuple[type[SQLModel], ...] = (RateRow,)
_TAKE = text(
    "INSERT INTO rate_window (subject, minute, taken) VALUES (:s, :m, :n) ON CONFLICT (subject, minute) DO UPDATE SET "
    "taken = rate_window.taken + excluded.taken WHERE rate_window.taken < :limit RETURNING taken"
)
_OLD_RATES = text("DELETE FROM rate_window WHERE minute < :m")
_QUOTAS = text("SELECT quotas FROM tenant WHERE tenant_id = :t")


@dataclass(frozen=True, slots=True)
class Quotas:
    """Quotas of a tenant; None means no limit."""

    requests_per_minute: int
    jobs_open: int | None = None
    files_per_day: int | None = None
    bytes_per_day: int | None = None
    workflows: int = 100
    """Workflows that the tenant may have."""
    actions: int = 20
    """Actions that the tenant may introduce, each with a topic for its tasks."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Values of the rate-limit headers. `reset` is in Unix seconds."""

    limit: int
    remaining: int
    reset: int


@dataclass
class _Window:
    minute: int = -1
    left: int = 0
    taken: int = 0


@dataclass
class Limits:
    """Counts in the store, so that all replicas together stay within the quota."""

    store: Store
    settings: IngestSettings
    _windows: OrderedDict[str, _Window] = field(default_factory=OrderedDict)
    _quotas: dict[str, tuple[float, Quotas]] = field(default_factory=dict)

    async def quotas(self, tenant: str) -> Quotas:
        """The tenant's quotas, at most five seconds old."""
        known = self._quotas.get(tenant)
        if known is not None and known[0] > clock.unix() - QUOTAS_STALE_S:
            return known[1]
        quotas = await self.store.read(lambda c: quotas_in(c, tenant, self.settings))
        if len(self._quotas) > MAX_TENANTS:
            self._quotas.clear()
        self._quotas[tenant] = clock.unix(), quotas
        return quotas

    async def take_request(self, tenant: str) -> Rate:
        """Count one request of the tenant. Raises `OverLimit`."""
        limit = (await self.quotas(tenant)).requests_per_minute
        return await self.take(f"tenant:{tenant}", limit)

    async def take(self, subject: str, limit: int) -> Rate:
        """Count one of `limit` per minute for any subject. Raises `OverLimit`."""
        minute = int(clock.unix() // MINUTE_S)
        reset = (minute + 1) * MINUTE_S
        window = self._windows.setdefault(subject, _Window())
        self._windows.move_to_end(subject)
        if len(self._windows) > MAX_TENANTS:
            self._windows.popitem(last=False)
        if window.minute != minute:
            window.minute, window.left, window.taken = minute, 0, 0
        if window.left <= 0:
            await self._refill(subject, window, limit, minute)
        if window.left <= 0:
            raise OverLimit(f"More than {limit} requests in this minute.", max(1, reset - int(clock.unix())), limit)
        window.left -= 1
        return Rate(limit, max(0, limit - window.taken) + window.left, reset)

    async def _refill(self, subject: str, window: _Window, limit: int, minute: int) -> None:
        block = max(1, limit // 50)

        def take(connection: Connection) -> int | None:
            connection.execute(_OLD_RATES, {"m": minute - 2})
            values = {"s": subject, "m": minute, "n": block, "limit": limit}
            return connection.execute(_TAKE, values).scalar()

        taken = await self.store.transact(take) if limit > 0 else None
        if window.minute != minute:
            return
        if taken is None:
            window.taken = limit
            return
        # The last block may exceed the limit; only the part below it is granted.
        window.left += min(block, limit - (taken - block))
        window.taken = min(taken, limit)

    async def reserve(self, tenant: str, places: Sequence[Place], hold_s: float = HOLD_S) -> set[str]:
        """Reserve places within the tenant's quotas, all or none, for `hold_s` seconds at most. Returns the ids that are new, for `release`.

        What is reserved or exists already costs nothing. Raises `OverLimit`. Without a quota that concerns the places only those of remote
        files are written: their true size is counted when it is known.
        """
        caps = await self.quotas(tenant)
        if not places or not (limits(caps, places) or any(p.elastic for p in places)):
            return set()
        return await self.store.transact(lambda c: reservations.reserve(c, tenant, caps, places, clock.unix(), hold_s))

    async def grow(self, tenant: str, place_id: str, size: int) -> None:
        """Let a reservation have `size` bytes. Raises `OverLimit`."""
        caps = await self.quotas(tenant)
        if caps.bytes_per_day is not None:
            await self.store.transact(lambda c: reservations.grow(c, tenant, caps, place_id, size, clock.unix()))

    async def release(self, tenant: str, ids: Collection[str]) -> None:
        """End reservations of what was not stored or started."""
        if ids:
            await self.store.transact(lambda c: reservations.release(c, tenant, ids))


def quotas_in(connection: Connection, tenant: str, settings: IngestSettings) -> Quotas:
    """The tenant's quotas as the running transaction sees them."""
    body = connection.execute(_QUOTAS, {"t": tenant}).scalar()
    own = {k: v for k, v in json.loads(body or "{}").items() if v is not None and k in Quotas.__slots__}
    defaults = {
        "requests_per_minute": settings.requests_per_minute, "workflows": settings.workflows_per_tenant,
        "actions": settings.actions_per_tenant,
    }  # fmt: skip
    return Quotas(**{**defaults, **own})
