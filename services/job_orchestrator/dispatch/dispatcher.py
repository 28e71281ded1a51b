"""Credits that nobody's batch gives out: when a rate has a token again, or what a replica left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic_core import from_json
from sqlalchemy import Connection

from services.job_orchestrator.core.job import IN_FLIGHT
from services.job_orchestrator.handlers import Orchestrator
from services.job_orchestrator.ports import Key
from shared import clock

SWEEP_S = 2.0
"""While anything waits, it is looked at this often, whatever this process knows."""


class Dispatcher:
    """Says when the next allocation is due."""

    def __init__(self, orchestrator: Orchestrator) -> None:
        self.orchestrator = orchestrator
        self._looked_at = 0.0

    def next_at(self, connection: Connection) -> float | None:
        """Unix time of the next allocation, or None when nothing waits."""
        if not self.orchestrator.stores.dispatch(connection).anything_waits():
            return None
        now = clock.unix()
        known = self.orchestrator.grant_at
        if known is not None and known <= now:
            return known
        if now - self._looked_at >= SWEEP_S:
            self._looked_at = now
            return now
        sweep = self._looked_at + SWEEP_S
        return sweep if known is None else min(known, sweep)


def counts_for(
    catalog: Any, parse: Callable[[str, str], Any], name: str, version: int, branch_body: str, job_body: str
) -> tuple[Key, ...]:
    """What a stored branch counts for (see `ledger.flight_keys`)."""
    branch = parse("", branch_body)
    step = catalog.pinned(name, version).all_steps[branch.step]
    if branch.state not in IN_FLIGHT or not step.action:
        return ()
    owner = from_json(from_json(job_body)["owner"])
    return (("action", step.action), ("tenant", owner["tenant_id"]))
