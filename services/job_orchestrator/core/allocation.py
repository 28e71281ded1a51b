"""Who gets the next credits: limits, rates and pauses of actions and tenants, and fair shares between tenants. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WINDOW = 1000
"""Tasks of an action in flight where no limit is set. Enough to keep many workers busy; few enough that a later job with a higher
priority, or of another tenant, gets its turn soon."""
HEAD_START_S = 3600.0
"""Seconds that a priority is worth. A high job goes before normal jobs up to that much older; a low one goes after. No job starves."""


@dataclass(frozen=True, slots=True)
class Control:
    """What an operator set for an action or a tenant. `tokens` at `tokens_at` (Unix seconds) are the state of its token bucket."""

    paused: bool = False
    limit: int | None = None
    rate_per_s: float | None = None
    burst: int | None = None
    weight: float | None = None
    by: str = ""
    reason: str = ""
    at: float = 0.0
    tokens: float | None = None
    tokens_at: float | None = None

    @property
    def narrows(self) -> bool:
        """True when tasks that it concerns must wait for the allocation."""
        return self.paused or self.limit is not None or self.rate_per_s is not None

    @property
    def depth(self) -> float:
        """Most tokens that the rate can save up."""
        return float(self.burst or max(1.0, self.rate_per_s or 1.0))

    def tokens_now(self, now: float) -> float:
        """Tokens of the rate at `now` (Unix seconds)."""
        assert self.rate_per_s is not None
        if self.tokens is None or self.tokens_at is None:
            return self.depth
        return min(self.depth, self.tokens + max(0.0, now - self.tokens_at) * self.rate_per_s)


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many tasks may be handed out now. If none: the gate that is closed, its facts, and when the next may go (Unix seconds)."""

    free: int
    gate: str = "open"
    facts: Mapping[str, Any] | None = None
    at: float | None = None


def capacity(control: Control | None, in_flight: int, now: float, window: int | None) -> Capacity:
    """What `control` leaves at `now` (Unix seconds). `window`: most tasks in flight where no limit is set; None for no bound."""
    control = control or Control()
    if control.paused:
        return Capacity(0, "paused", {"by": control.by, "reason": control.reason, "since": control.at})
    most = control.limit if control.limit is not None else window
    free = 1 << 30 if most is None else most - in_flight
    if free <= 0:
        return Capacity(0, "limit" if control.limit is not None else "window", {"limit": most, "in_flight": in_flight})
    if control.rate_per_s is not None:
        tokens = control.tokens_now(now)
        if tokens < 1:
            at = now + (1 - tokens) / control.rate_per_s
            return Capacity(0, "rate", {"rate_per_s": control.rate_per_s, "at": at}, at)
        free = min(free, int(tokens))
    return Capacity(free)


@dataclass(slots=True)
class Claim:
    """A tenant that waits for an action. `passed`: how far it is in the fair order; the smallest goes first."""

    tenant: str
    waiting: int
    free: int
    weight: float
    passed: float


def shares(free: int, claims: Sequence[Claim]) -> dict[str, int]:
    """Distribute `free` credits by stride scheduling (Waldspurger and Weihl, 1995); returns credits by tenant.

    Each credit goes to the claim with the smallest `passed`, which then grows by 1/weight: the claims are changed. A tenant gets at
    most what it waits for and is free to take.
    """
    given: dict[str, int] = {}
    open_ = [c for c in claims if c.waiting > 0 and c.free > 0]
    while free > 0 and open_:
        claim = min(open_, key=lambda c: (c.passed, c.tenant))
        claim.passed += 1 / claim.weight
        claim.waiting -= 1
        claim.free -= 1
        free -= 1
        given[claim.tenant] = given.get(claim.tenant, 0) + 1
        if claim.waiting <= 0 or claim.free <= 0:
            open_.remove(claim)
    return given


def caught_up(claims: Sequence[Claim], fresh: frozenset[str]) -> None:
    """Let tenants in `fresh` start level with the smallest `passed` of the others. Shares that a tenant did not use are not saved up."""
    others = [c.passed for c in claims if c.tenant not in fresh]
    start = min(others, default=0.0)
    for claim in claims:
        if claim.tenant in fresh:
            claim.passed = max(claim.passed, start)


def rank(created_at: float, priority: str) -> float:
    """Place among a tenant's tasks; the smallest goes first. It is the job's creation time (Unix seconds), shifted by its priority."""
    return created_at + {"high": -HEAD_START_S, "low": HEAD_START_S}.get(priority, 0.0)
