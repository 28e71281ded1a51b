"""Quotas of tenants: requests per minute over all replicas, files and bytes per day, open jobs."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import BigInteger, Connection, text
from sqlmodel import Field, SQLModel

from contracts import JobStage
from services.ingest.settings import IngestSettings
from shared import clock
from shared.database.store import Store

QUOTAS_STALE_S = 5.0
"""Longest time that a process uses quotas it has read."""
MINUTE_S, DAY_S = 60, 86_400
MAX_TENANTS = 10_000
OPEN = [stage.value for stage in JobStage if not stage.terminal]


class RateRow(SQLModel, table=True):
    """Requests of a subject in a minute. Processes take them in blocks."""

    __tablename__ = "rate_window"
    subject: str = Field(primary_key=True)
    minute: int = Field(primary_key=True)
    taken: int


class UsageRow(SQLModel, table=True):
    """Files and bytes that a tenant uploaded on a day (days since 1970, UTC)."""

    __tablename__ = "usage_day"
    tenant_id: str = Field(primary_key=True)
    day: int = Field(primary_key=True)
    files: int = Field(sa_type=BigInteger)
    bytes: int = Field(sa_type=BigInteger)


MODELS: tuple[type[SQLModel], ...] = (RateRow, UsageRow)
_TAKE = text(
    "INSERT INTO rate_window (subject, minute, taken) VALUES (:s, :m, :n) ON CONFLICT (subject, minute) DO UPDATE SET "
    "taken = rate_window.taken + excluded.taken WHERE rate_window.taken < :limit RETURNING taken"
)
_OLD_RATES = text("DELETE FROM rate_window WHERE minute < :m")
_USE = text(
    "INSERT INTO usage_day (tenant_id, day, files, bytes) VALUES (:t, :d, :f, :b) ON CONFLICT (tenant_id, day) DO UPDATE SET "
    "files = usage_day.files + excluded.files, bytes = usage_day.bytes + excluded.bytes"
)
_USED = text("SELECT files, bytes FROM usage_day WHERE tenant_id = :t AND day = :d")
_QUOTAS = text("SELECT quotas FROM tenant WHERE tenant_id = :t")


class OverLimit(Exception):
    """A quota or rate is exhausted; `retry_after_s` is the time until it is available again."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Quotas:
    """Quotas of a tenant; None means no limit."""

    requests_per_minute: int
    jobs_open: int | None = None
    files_per_day: int | None = None
    bytes_per_day: int | None = None


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
        body = await self.store.read(lambda c: c.execute(_QUOTAS, {"t": tenant}).scalar())
        own = {k: v for k, v in json.loads(body or "{}").items() if v is not None and k in Quotas.__slots__}
        quotas = Quotas(**{"requests_per_minute": self.settings.requests_per_minute, **own})
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
            raise OverLimit(f"More than {limit} requests in this minute.", max(1, reset - int(clock.unix())))
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

    async def check_upload(self, tenant: str, size: int | None) -> None:
        """Check that the tenant may upload another file, of `size` bytes if known. Raises `OverLimit`."""
        quotas = await self.quotas(tenant)
        if quotas.files_per_day is None and quotas.bytes_per_day is None:
            return
        now = clock.unix()
        day = int(now // DAY_S)
        row = await self.store.read(lambda c: c.execute(_USED, {"t": tenant, "d": day}).first())
        files, used = (row.files, row.bytes) if row else (0, 0)
        again = int((day + 1) * DAY_S - now) + 1
        if quotas.files_per_day is not None and files >= quotas.files_per_day:
            raise OverLimit(f"More than {quotas.files_per_day} files today.", again)
        if quotas.bytes_per_day is not None and used + (size or 1) > quotas.bytes_per_day:
            raise OverLimit(f"More than {quotas.bytes_per_day} bytes today.", again)

    async def count_upload(self, tenant: str, files: int, size: int) -> None:
        """Count uploaded files and bytes."""
        values = {"t": tenant, "d": int(clock.unix() // DAY_S), "f": files, "b": size}
        await self.store.transact(lambda c: c.execute(_USE, values) and None)

    async def check_open_jobs(self, tenant: str) -> None:
        """Check that the tenant may open another job. Raises `OverLimit`."""
        most = (await self.quotas(tenant)).jobs_open
        if most is not None and await self.store.read(lambda c: open_jobs(c, tenant, most)) >= most:
            raise OverLimit(f"{most} jobs are open, which is the limit.", 5)


def open_jobs(connection: Connection, tenant: str, most: int) -> int:
    """Number of the tenant's jobs that have not ended. Counting stops at `most`."""
    names = ", ".join(f":s{n}" for n in range(len(OPEN)))
    query = text(f"SELECT count(*) FROM (SELECT 1 FROM job_view WHERE tenant_id = :t AND stage IN ({names}) LIMIT :n) x")
    values: dict[str, Any] = {f"s{n}": stage for n, stage in enumerate(OPEN)}
    return int(connection.execute(query, {**values, "t": tenant, "n": most}).scalar_one())


def used_today(connection: Connection, tenant: str, now: float) -> dict[str, int]:
    """Files and bytes that the tenant has uploaded today (UTC)."""
    row = connection.execute(_USED, {"t": tenant, "d": int(now // DAY_S)}).first()
    return {"files": row.files, "bytes": row.bytes} if row else {"files": 0, "bytes": 0}
