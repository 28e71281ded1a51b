"""How fast tasks come and go, as this process sees it: for people, never for a decision."""

from __future__ import annotations

import math
from collections import Counter

from services.job_orchestrator.dispatch.budget import Budget

HALF_LIFE_S = 30.0
LIFE_SIGN_EVERY_S = 5.0
Line = tuple[str, str]
"""(action, tenant)."""


class Rate:
    """Events per second, an exponentially weighted average."""

    def __init__(self) -> None:
        self.value = 0.0
        self.at = 0.0

    def add(self, n: int, now: float) -> None:
        """`n` events at `now` (Unix seconds)."""
        self.value = self.per_s(now) + n * math.log(2) / HALF_LIFE_S
        self.at = now

    def per_s(self, now: float) -> float:
        """The average as of `now`."""
        return self.value * 0.5 ** (max(0.0, now - self.at) / HALF_LIFE_S) if self.at else 0.0


class Rates:
    """One per process."""

    def __init__(self) -> None:
        self.arrivals: dict[Line, Rate] = {}
        self.services: dict[Line, Rate] = {}
        self.wasted: Counter[Line] = Counter()
        self._seen: dict[Line, float] = {}

    def add(self, budget: Budget, now: float) -> None:
        """What one transaction moved."""
        for line, n in budget.arrived.items():
            self.arrivals.setdefault(line, Rate()).add(n, now)
        for line, n in budget.served.items():
            self.services.setdefault(line, Rate()).add(n, now)

    def waste(self, action: str, tenant: str) -> None:
        """A worker's work came to nothing."""
        self.wasted[action, tenant] += 1

    def sign_of_life(self, action: str, worker: str, now: float) -> bool:
        """True when a worker's report is worth writing down as a sign of life: now and then."""
        if now - self._seen.get((action, worker), 0.0) < LIFE_SIGN_EVERY_S:
            return False
        if len(self._seen) > 10_000:
            self._seen.clear()
        self._seen[action, worker] = now
        return True
