"""When a schedule makes its next job: cron expressions in a time zone (https://manpages.debian.org/cron, by cronsim)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError


@dataclass(frozen=True, slots=True)
class Bad(Exception):
    """The field of a schedule that is wrong, and why."""

    field: str
    reason: str

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}"


def next_time(cron: str, time_zone: str, after: datetime) -> datetime:
    """The first time after `after` (UTC) that fits; a local time that the clock skips is taken right after the skip.

    Raises `Bad` for an expression or a zone that is none, or an expression that fits no time.
    """
    try:
        zone = ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Bad("time_zone", f"{time_zone!r} is no time zone") from None
    try:
        found: datetime = next(CronSim(cron, after.astimezone(zone)))
    except CronSimError as error:
        raise Bad("cron", f"{cron!r}: {error}") from None
    except StopIteration:
        raise Bad("cron", f"{cron!r} never fits") from None
    return found.astimezone(UTC)
