"""When credits are given out although no batch arrives: a rate has its next token, or another replica left something waiting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic_core import from_json
from sqlalchemy import Connection

from services.job_orchestrator.core.job import IN_FLIGHT
from services.job_orchestrator.dispatch.budget import Budget
from services.job_orchestrator.dispatch.rates import Rates
from services.job_orchestrator.ports import DispatchStore, Key
from shared import clock

SWEEP_S = 2.0
"""Seconds between allocations while anything waits, whatever this process knows."""


class Dispatcher:
    """What this process knows about dispatch beyond one transaction. `stores` opens a store on a connection."""

    def __init__(self, stores: Callable[[Connection], DispatchStore]) -> None:
        self.stores = stores
        self.rates = Rates()
        self._grant_at: float | None = None
        """Unix time at which a rate has its next token, as far as this process knows; 0 for at once."""
        self._swept_at = 0.0

    def record(self, budget: Budget, now: float) -> None:
        """Take over what a transaction at `now` (Unix seconds) did and found out."""
        self._grant_at = 0.0 if budget.more else budget.blocked_until
        self.rates.add(budget, now)

    def next_at(self, connection: Connection) -> float | None:
        """Unix time of the next allocation, or None while nothing waits."""
        if not self.stores(connection).has_ready():
            return None
        now = clock.unix()
        known = self._grant_at
        if known is not None and known <= now:
            return known
        if now - self._swept_at >= SWEEP_S:
            self._swept_at = now
            return now
        sweep = self._swept_at + SWEEP_S
        return sweep if known is None else min(known, sweep)


def counts_for(
    catalog: Any, parse: Callable[[str, str], Any], name: str, version: int, branch_body: str, job_body: str
) -> tuple[Key, ...]:
    """As `budget.flight_keys`, from the stored text of a branch and of its job. `catalog` knows workflow `name` at `version`."""
    branch = parse("", branch_body)
    step = catalog.pinned(name, version).all_steps[branch.step]
    if branch.state not in IN_FLIGHT or not step.action:
        return ()
    owner = from_json(from_json(job_body)["owner"])
    return (("action", step.action), ("tenant", owner["tenant_id"]))
