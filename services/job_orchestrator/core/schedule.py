"""When a schedule makes its next job: cron expressions in a time zone, by Debian's rules (https://manpages.debian.org/cron, cronsim)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

MACROS = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0", "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}  # fmt: skip
"""Names for expressions (crontab(5)). `@reboot` is no time."""
FIELDS = 5


@dataclass(frozen=True, slots=True)
class InvalidSchedule(Exception):
    """A field of a schedule is invalid. `reason` says why, for people."""

    field: str
    reason: str

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}"


def fields_of(cron: str) -> str:
    """The five fields of an expression or of a macro. Raises `InvalidSchedule` for anything else: a sixth field would be seconds."""
    found = MACROS.get(cron.strip().lower(), cron).split()
    if len(found) != FIELDS:
        raise InvalidSchedule("cron", f"{cron!r}: five fields are expected, or one of {', '.join(MACROS)}")
    return " ".join(found)


def next_time(cron: str, time_zone: str, after: datetime) -> datetime:
    """The first time after `after` (UTC) that fits, in UTC. A local time that daylight saving skips fires right after the skip.

    Raises `InvalidSchedule` for an invalid expression or time zone, and for an expression that fits no time.
    """
    try:
        zone = ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidSchedule("time_zone", f"{time_zone!r} is no time zone") from None
    try:
        found: datetime = next(CronSim(fields_of(cron), after.astimezone(zone)))
    except CronSimError as error:
        raise InvalidSchedule("cron", f"{cron!r}: {error}") from None
    except StopIteration:
        raise InvalidSchedule("cron", f"{cron!r} never fits") from None
    return found.astimezone(UTC)
