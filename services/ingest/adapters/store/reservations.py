"""Reserved places within a tenant's quotas: what is about to be stored or started counts before it is there.

A reservation ends in one of three ways: it is settled (the true size is counted), released, or it expires. Every function runs in the
caller's transaction; transactions of one tenant that reserve wait for each other, on every replica.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import BigInteger, Connection, text
from sqlmodel import Field, SQLModel

from contracts import JobStage
from shared.database.statements import Statement, as_list, exclusive

HOLD_S = 3600.0
"""Seconds after which a reservation ends whose process died."""
REMOTE_HOLD_S = 86_400.0
"""The same for a file that a worker downloads: the job may wait for a worker."""
DAY_S = 86_400
OPEN = [stage.value for stage in JobStage if not stage.terminal]


class ReservationRow(SQLModel, table=True):
    """A place that is taken: of a job among the open jobs, or of files and bytes in today's usage."""

    __tablename__ = "reservation"
    tenant_id: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    """Id of the job, the file or the upload. The same id is reserved once."""
    jobs: int
    files: int
    bytes: int = Field(sa_type=BigInteger)
    expires_at: float


class UsageRow(SQLModel, table=True):
    """Files and bytes that a tenant stored on a day (days since 1970, UTC)."""

    __tablename__ = "usage_day"
    tenant_id: str = Field(primary_key=True)
    day: int = Field(primary_key=True)
    files: int = Field(sa_type=BigInteger)
    bytes: int = Field(sa_type=BigInteger)


MODELS: tuple[type[SQLModel], ...] = (UsageRow, ReservationRow)


class OverLimit(Exception):
    """A quota or rate is exhausted; `retry_after_s` is the time until it is available again. A rate has its limit per minute."""

    def __init__(self, message: str, retry_after_s: int, per_minute: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.per_minute = per_minute


class Caps(Protocol):
    """The quotas that reservations respect; None means no limit."""

    @property
    def jobs_open(self) -> int | None: ...
    @property
    def files_per_day(self) -> int | None: ...
    @property
    def bytes_per_day(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Place:
    """What one job, or one file or upload takes: a job's place holds no files. With `elastic`, `bytes` is the most it may have: less is reserved where less is left."""

    id: str
    jobs: int = 0
    files: int = 0
    bytes: int = 0
    elastic: bool = False


def job_place(job_id: str) -> Place:
    """The place of a job among the tenant's open jobs."""
    return Place(job_id, jobs=1)


def remote_place(file_id: str, most: int) -> Place:
    """The place of a file that a worker will download: its size is unknown, `most` bytes at most."""
    return Place(file_id, files=1, bytes=most, elastic=True)


# Deleting comes first: on SQLite it takes the write lock, so that what follows sees every reservation.
_EXPIRED = text(
    "DELETE FROM reservation WHERE tenant_id = :t AND (expires_at < :now OR (jobs > 0 AND (EXISTS (SELECT 1 FROM job_view v WHERE v.id = "
    "reservation.id) OR EXISTS (SELECT 1 FROM erased e WHERE e.job_id = reservation.id))))"
)
_KNOWN = Statement(
    "SELECT id FROM reservation WHERE tenant_id = :t AND id IN (SELECT value FROM [ids]) UNION "
    "SELECT id FROM job_view WHERE tenant_id = :t AND id IN (SELECT value FROM [ids]) UNION "
    "SELECT id FROM file_view WHERE tenant_id = :t AND id IN (SELECT value FROM [ids])"
)
_HELD = text(
    "SELECT coalesce(sum(jobs), 0) AS jobs, coalesce(sum(files), 0) AS files, coalesce(sum(bytes), 0) AS bytes "
    "FROM reservation WHERE tenant_id = :t"
)
_INSERT = text(
    "INSERT INTO reservation (tenant_id, id, jobs, files, bytes, expires_at) VALUES (:t, :i, :j, :f, :b, :e) ON CONFLICT DO NOTHING"
)
_ROW = text("SELECT jobs, files, bytes FROM reservation WHERE tenant_id = :t AND id = :i")
_GROW = text("UPDATE reservation SET bytes = :b WHERE tenant_id = :t AND id = :i")
_EXTEND = text("UPDATE reservation SET expires_at = :e WHERE tenant_id = :t AND id = :i")
_TAKE = text("DELETE FROM reservation WHERE tenant_id = :t AND id = :i RETURNING files")
_RELEASE = Statement("DELETE FROM reservation WHERE tenant_id = :t AND id IN (SELECT value FROM [ids])")
_ENDED = Statement("DELETE FROM reservation WHERE id IN (SELECT value FROM [ids]) RETURNING tenant_id, id, files")
_USE = text(
    "INSERT INTO usage_day (tenant_id, day, files, bytes) VALUES (:t, :d, :f, :b) ON CONFLICT (tenant_id, day) DO UPDATE SET "
    "files = usage_day.files + excluded.files, bytes = usage_day.bytes + excluded.bytes"
)
_USED = text("SELECT files, bytes FROM usage_day WHERE tenant_id = :t AND day = :d")


def limits(caps: Caps, places: Sequence[Place]) -> bool:
    """True when a quota of `caps` concerns one of the places."""
    stores = any(p.files or p.bytes for p in places)
    per_day = caps.files_per_day is not None or caps.bytes_per_day is not None
    return (caps.jobs_open is not None and any(p.jobs for p in places)) or (stores and per_day)


def reserve(connection: Connection, tenant: str, caps: Caps, places: Sequence[Place], now: float, hold_s: float) -> set[str]:
    """Reserve the places, all or none; returns the ids that are new. What is reserved, or exists already, costs nothing.

    Raises `OverLimit`, and changes nothing, when one does not fit. `now` is in Unix seconds.
    """
    exclusive(connection, f"quota:{tenant}")
    connection.execute(_EXPIRED, {"t": tenant, "now": now})
    known = set(_KNOWN.run(connection, {"t": tenant, "ids": as_list(p.id for p in places)}).scalars())
    new = {p.id: p for p in places if p.id not in known}
    if not new:
        return set()
    left = _left(connection, tenant, caps, list(new.values()), now)
    for place in new.values():
        size = place.bytes
        if place.elastic:
            size = min(size, 1 + left) if left is not None else 0
            left = None if left is None else left - max(0, size - 1)
        values = {"t": tenant, "i": place.id, "j": place.jobs, "f": place.files, "b": size, "e": now + hold_s}
        connection.execute(_INSERT, values)
    return set(new)


def _left(connection: Connection, tenant: str, caps: Caps, new: Sequence[Place], now: float) -> int | None:
    """Bytes that are left when each new place has the least it needs; None without a limit. Raises `OverLimit`."""
    held = connection.execute(_HELD, {"t": tenant}).one()
    jobs, files = sum(p.jobs for p in new), sum(p.files for p in new)
    if jobs and caps.jobs_open is not None:
        most = caps.jobs_open
        if open_in_view(connection, tenant, most + 1) + int(held.jobs) + jobs > most:
            raise OverLimit(f"{most} jobs are open, which is the limit.", 5)
    used = used_today(connection, tenant, now)
    tomorrow = int(DAY_S - now % DAY_S) + 1
    if files and caps.files_per_day is not None and used["files"] + int(held.files) + files > caps.files_per_day:
        raise OverLimit(f"More than {caps.files_per_day} files today.", tomorrow)
    if caps.bytes_per_day is None:
        return None
    least = sum(1 if p.elastic else p.bytes or 1 for p in new if p.files or p.bytes)
    left = caps.bytes_per_day - used["bytes"] - int(held.bytes) - least
    if least and left < 0:
        raise OverLimit(f"More than {caps.bytes_per_day} bytes today.", tomorrow)
    return left


def grow(connection: Connection, tenant: str, caps: Caps, place_id: str, size: int, now: float) -> None:
    """Let a reservation have `size` bytes, if it has fewer. Raises `OverLimit` when they do not fit. Without a row nothing happens."""
    exclusive(connection, f"quota:{tenant}")
    connection.execute(_EXPIRED, {"t": tenant, "now": now})
    row = connection.execute(_ROW, {"t": tenant, "i": place_id}).first()
    if row is None or row.bytes >= size:
        return
    if caps.bytes_per_day is not None:
        held = connection.execute(_HELD, {"t": tenant}).one()
        if used_today(connection, tenant, now)["bytes"] + int(held.bytes) - row.bytes + size > caps.bytes_per_day:
            raise OverLimit(f"More than {caps.bytes_per_day} bytes today.", int(DAY_S - now % DAY_S) + 1)
    connection.execute(_GROW, {"t": tenant, "i": place_id, "b": size})


def extend(connection: Connection, tenant: str, place_id: str, expires_at: float) -> None:
    """Keep a reservation until `expires_at` (Unix seconds)."""
    connection.execute(_EXTEND, {"t": tenant, "i": place_id, "e": expires_at})


def settle(connection: Connection, tenant: str, place_id: str, files: int, size: int, now: float) -> None:
    """End a reservation, if there is one, and count what was stored."""
    connection.execute(_TAKE, {"t": tenant, "i": place_id})
    count(connection, tenant, files, size, now)


def settle_ended(connection: Connection, sizes: Mapping[str, int | None], now: float) -> None:
    """End the reservations of files by id, as far as there are any. A file has its size, or None when it never got one."""
    for tenant, place_id, files in _ENDED.rows(connection, {"ids": as_list(sizes)}):
        count(connection, tenant, files, sizes[place_id] or 0, now)


def take(connection: Connection, tenant: str, caps: Caps, files: int, size: int, now: float) -> None:
    """Count what the running transaction itself stores. Raises `OverLimit` when it does not fit: the caller lets that roll back."""
    place = Place("", files=files, bytes=size)
    if limits(caps, [place]):
        exclusive(connection, f"quota:{tenant}")
        connection.execute(_EXPIRED, {"t": tenant, "now": now})
        _left(connection, tenant, caps, [place], now)
    count(connection, tenant, files, size, now)


def release(connection: Connection, tenant: str, ids: Collection[str]) -> None:
    """End reservations of what was not stored or started."""
    _RELEASE.run(connection, {"t": tenant, "ids": as_list(ids)})


def count(connection: Connection, tenant: str, files: int, size: int, now: float) -> None:
    """Add to today's usage. Negative numbers take back what was counted."""
    connection.execute(_USE, {"t": tenant, "d": int(now // DAY_S), "f": files, "b": size})


def used_today(connection: Connection, tenant: str, now: float) -> dict[str, int]:
    """Files and bytes that the tenant has stored today (UTC)."""
    row = connection.execute(_USED, {"t": tenant, "d": int(now // DAY_S)}).first()
    return {"files": row.files, "bytes": row.bytes} if row else {"files": 0, "bytes": 0}


def open_in_view(connection: Connection, tenant: str, most: int) -> int:
    """Number of the tenant's jobs in the read model that have not ended. Counting stops at `most`."""
    names = ", ".join(f":s{n}" for n in range(len(OPEN)))
    query = text(f"SELECT count(*) FROM (SELECT 1 FROM job_view WHERE tenant_id = :t AND stage IN ({names}) LIMIT :n) x")
    values: dict[str, Any] = {f"s{n}": stage for n, stage in enumerate(OPEN)}
    return int(connection.execute(query, {**values, "t": tenant, "n": most}).scalar_one())


_WAITING = text(
    "SELECT count(*) FROM reservation r WHERE tenant_id = :t AND jobs > 0 AND expires_at >= :now "
    "AND NOT EXISTS (SELECT 1 FROM job_view v WHERE v.id = r.id)"
)


def open_jobs(connection: Connection, tenant: str, most: int, now: float) -> int:
    """The tenant's jobs that have not ended, with those that are accepted but not in the read model yet. Counting stops at `most`."""
    waiting = int(connection.execute(_WAITING, {"t": tenant, "now": now}).scalar_one())
    return min(most, open_in_view(connection, tenant, most) + waiting)
