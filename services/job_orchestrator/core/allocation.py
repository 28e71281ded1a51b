"""Who gets the next credits: limits, rates and pauses of actions and tenants, and fair shares between tenants. Numbers in, numbers out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WINDOW = 1000
"""Tasks of an action in flight unless a limit says otherwise: enough for many workers, few enough that a job that comes later
with a higher priority, or of another tenant, has not long to wait for its turn."""
HEAD_START_S = 3600.0
"""What a priority is worth: a high job goes before normal ones that are up to an hour older, and a low one after. Nobody starves."""


@dataclass(frozen=True, slots=True)
class Control:
    """What somebody set for an action or a tenant. `tokens` and `tokens_at` (Unix seconds) are the state of its rate."""

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
        """True when tasks it concerns must wait for the allocation."""
        return self.paused or self.limit is not None or self.rate_per_s is not None

    @property
    def depth(self) -> float:
        """Tokens that a rate can save up."""
        return float(self.burst or max(1.0, self.rate_per_s or 1.0))

    def tokens_now(self, now: float) -> float:
        """Tokens of its rate at `now`."""
        assert self.rate_per_s is not None
        if self.tokens is None or self.tokens_at is None:
            return self.depth
        return min(self.depth, self.tokens + max(0.0, now - self.tokens_at) * self.rate_per_s)


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many tasks a control admits now, and if none: why, with the time of the next if that is known."""

    free: int
    gate: str = "open"
    facts: Mapping[str, Any] | None = None
    at: float | None = None


def capacity(control: Control | None, in_flight: int, now: float, window: int | None) -> Capacity:
    """What `control` (or the window of an action without a limit) leaves at `now`."""
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
    """A tenant that waits for an action: how many tasks, its weight, and how far it is (`passed`; less goes first)."""

    tenant: str
    waiting: int
    free: int
    weight: float
    passed: float


def shares(free: int, claims: Sequence[Claim]) -> dict[str, int]:
    """Distribute `free` credits: stride scheduling (Waldspurger and Weihl, 1995), one at a time to whoever is furthest behind.

    Changes the claims: `passed` grows by 1/weight with each credit. Nobody gets more than it waits for or is free to take.
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
    """A tenant that comes (again) starts where the furthest behind of the others is: what it did not use is not saved up."""
    others = [c.passed for c in claims if c.tenant not in fresh]
    start = min(others, default=0.0)
    for claim in claims:
        if claim.tenant in fresh:
            claim.passed = max(claim.passed, start)


def rank(created_at: float, priority: str) -> float:
    """Place in the queue of a tenant's tasks (less goes first): old jobs before new ones, shifted by the priority."""
    return created_at + {"high": -HEAD_START_S, "low": HEAD_START_S}.get(priority, 0.0)
