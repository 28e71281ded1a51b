"""Tasks per second that come and go, as this process sees them. They are shown to people and decide nothing."""

from __future__ import annotations

import math
from collections import Counter

from services.job_orchestrator.dispatch.budget import Budget

HALF_LIFE_S = 30.0
LIFE_SIGN_EVERY_S = 5.0
"""Seconds between two reports of a worker that are stored as signs of life."""
MOST_WORKERS = 10_000
Line = tuple[str, str]
"""(action, tenant)."""


class Rate:
    """Events per second, as an exponentially weighted average."""

    def __init__(self) -> None:
        self.value = 0.0
        self.at = 0.0

    def add(self, n: int, now: float) -> None:
        """Count `n` events at `now` (Unix seconds)."""
        self.value = self.per_s(now) + n * math.log(2) / HALF_LIFE_S
        self.at = now

    def per_s(self, now: float) -> float:
        """The average at `now` (Unix seconds)."""
        return self.value * 0.5 ** (max(0.0, now - self.at) / HALF_LIFE_S) if self.at else 0.0


class Rates:
    """Rates of all actions and tenants. Each process has its own."""

    def __init__(self) -> None:
        self.arrivals: dict[Line, Rate] = {}
        self.services: dict[Line, Rate] = {}
        self.wasted: Counter[Line] = Counter()
        self._seen: dict[Line, float] = {}

    def add(self, budget: Budget, now: float) -> None:
        """Count the attempts that one transaction began and ended."""
        for line, n in budget.arrived.items():
            self.arrivals.setdefault(line, Rate()).add(n, now)
        for line, n in budget.served.items():
            self.services.setdefault(line, Rate()).add(n, now)

    def waste(self, action: str, tenant: str) -> None:
        """Count work whose report was refused."""
        self.wasted[action, tenant] += 1

    def sign_of_life(self, action: str, worker: str, now: float) -> bool:
        """True when a worker's report is to be stored as a sign of life: at most one per `LIFE_SIGN_EVERY_S`."""
        if now - self._seen.get((action, worker), 0.0) < LIFE_SIGN_EVERY_S:
            return False
        if len(self._seen) > MOST_WORKERS:
            self._seen.clear()
        self._seen[action, worker] = now
        return True
