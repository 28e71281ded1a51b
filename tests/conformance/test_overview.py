"""What steers dispatch, read at once, is the same in both databases."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from services.job_orchestrator.adapters.dispatch_store import SqlDispatchStore
from services.job_orchestrator.core.allocation import Control
from services.job_orchestrator.ports import Overview
from tests.conformance.conftest import Opener


async def test_the_overview_has_controls_flight_and_whether_something_waits(opened: Opener) -> None:
    store = await opened("job_orchestrator")
    ready: dict[str, Any] = {
        "job_id": "j", "lane_id": "f", "lease": "l", "action": "ocr", "tenant_id": "acme", "rank": 1.0, "since": 2.0,
    }  # fmt: skip

    def work(connection: Connection) -> list[Overview]:
        one, other = SqlDispatchStore(connection, 1), SqlDispatchStore(connection, 2)
        seen = [one.overview()]
        one.add_in_flight({("action", "ocr"): 5, ("tenant", "acme"): 5, ("tenant", "other"): 3})
        other.add_in_flight({("action", "ocr"): -2, ("tenant", "acme"): 1})
        one.set_control(("tenant", "acme"), Control(limit=7, by="ann"))
        one.set_control(("action", "ocr"), Control(rate_per_s=0.5))
        one.set_tokens(("action", "ocr"), 0.25, 9.5)
        one.change_ready([ready], [])
        seen.append(other.overview())
        one.change_ready([], [ready])
        return [*seen, one.overview()]

    empty, full, after = await store.transact(work)
    assert empty == Overview({}, {}, False)
    assert full.in_flight == {("action", "ocr"): 3, ("tenant", "acme"): 6}, (
        "sums over slots; of tenants, those that something is set for"
    )
    assert full.controls[("tenant", "acme")] == Control(limit=7, by="ann")
    assert full.controls[("action", "ocr")] == Control(rate_per_s=0.5, tokens=0.25, tokens_at=9.5)
    assert full.waits and not after.waits and after.in_flight == full.in_flight
