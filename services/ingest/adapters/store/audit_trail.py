"""Lines of the audit that outsiders can cause: refusals, failed sign-ins, downloads. Equal lines of a minute are counted, and the
number of different lines is bounded, so that nobody fills the disk."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field, replace
from datetime import timedelta

from services.ingest.adapters.store import audit
from services.ingest.adapters.store.audit import Entry
from shared import clock
from shared.database.store import Store
from shared.errors import Retry

log = logging.getLogger(__name__)
MINUTE_S, DAY_S = 60.0, 86_400.0
OTHERS = "others"
"""Subject of the line that stands for all lines past the bounds."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Different lines that one process writes at most. Further ones become one line with the subject `others`."""

    name: str
    per_minute: int
    per_day: int


REFUSALS = Bounds("refusals", 20, 5000)
"""For what needs no credential."""
MISSING_RIGHTS = Bounds("missing rights", 60, 10_000)
"""For refusals of proven callers, so that strangers cannot crowd them out."""
DOWNLOADS = Bounds("downloads", 300, 50_000)
"""For what signed-in users do."""


@dataclass
class _Line:
    entry: Entry
    uncounted: int = 0


@dataclass
class AuditTrail:
    """Writes the first of equal lines in a minute at once, and one line for the others when the minute is over."""

    store: Store
    _minute: int = -1
    _day: int = -1
    _lines: dict[tuple[str, ...], _Line] = field(default_factory=dict)
    _due: list[Entry] = field(default_factory=list)
    _of_minute: dict[str, int] = field(default_factory=dict)
    _of_day: dict[str, int] = field(default_factory=dict)

    async def note(self, entry: Entry, bounds: Bounds) -> bool:
        """Count a line. Returns True for the first of its kind in this minute. A store that is unavailable is logged."""
        self._turn(entry.at)
        line = self._lines.get(_key(entry))
        if line is None and self._exceeds(bounds):
            entry = replace(entry, subject=OTHERS, by="", message=None, address=None)
            line = self._lines.setdefault(_key(entry), _Line(entry))
        if line is not None:
            line.uncounted += 1
            return False
        self._lines[_key(entry)] = _Line(entry)
        await self._write([entry])
        return True

    def _turn(self, now: float) -> None:
        """Begin a new minute and day, if they have begun."""
        minute, day = int(now // MINUTE_S), int(now // DAY_S)
        if day != self._day:
            self._day, self._of_day = day, {}
        if minute != self._minute:
            self._due += [replace(line.entry, count=line.uncounted) for line in self._lines.values() if line.uncounted]
            self._minute, self._lines, self._of_minute = minute, {}, {}

    def _exceeds(self, bounds: Bounds) -> bool:
        of_minute, of_day = self._of_minute.get(bounds.name, 0), self._of_day.get(bounds.name, 0)
        if of_minute >= bounds.per_minute or of_day >= bounds.per_day:
            return True
        self._of_minute[bounds.name], self._of_day[bounds.name] = of_minute + 1, of_day + 1
        return False

    async def flush(self, now: float) -> None:
        """Write the counts of minutes that are over at `now`."""
        self._turn(now)
        due, self._due = self._due, []
        await self._write(due)

    async def _write(self, entries: list[Entry]) -> None:
        if not entries:
            return
        try:
            await self.store.transact(lambda c: audit.add_entries(c, entries))
        except Retry as error:
            lost = [f"{e.verb} {e.subject} {e.code or ''} x{e.count}" for e in entries]
            log.error("lines of the audit were not written", extra={"lines": lost, "reason": str(error)})

    async def close(self) -> None:
        """Write all counts, before the process ends."""
        await self.flush(clock.unix() + MINUTE_S)

    async def run(self) -> None:
        """Until cancelled: write counts each minute; adopt lines of an older release and prune old ones."""
        while True:
            await asyncio.sleep(MINUTE_S)
            await self.flush(clock.unix())
            try:
                await self.tidy()
            except Retry as error:
                log.warning("the audit was not pruned, will retry", extra={"code": error.code, "reason": str(error)})

    async def tidy(self) -> None:
        """Adopt all lines of an older release, and prune all that are past their time. Raises `Retry`."""
        before = clock.now() - timedelta(seconds=audit.KEPT_S)
        while await self.store.transact(audit.adopt) == audit.PART:
            pass
        while await self.store.transact(lambda c: audit.prune(c, before.timestamp())) == audit.PART:
            pass


def _key(entry: Entry) -> tuple[str, ...]:
    return entry.tenant, entry.verb, entry.subject, entry.by, entry.code or "", entry.address or ""
