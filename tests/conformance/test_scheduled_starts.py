"""Starts of schedules are admitted within the tenant's quotas, once."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import text

from contracts import CreateJob, ScheduleState
from services.ingest.adapters.store import accounts
from services.ingest.adapters.store.operations import save_schedule
from services.ingest.adapters.store.scheduled_starts import start_scheduled
from services.ingest.settings import IngestSettings
from shared.processing.unit_of_work import Unit
from tests.conformance.conftest import Opener
from tests.contracts.examples import OTHERS
from tests.unit.fake_relay import NotingRelay

STATE = next(m for m in OTHERS if isinstance(m, ScheduleState))


async def test_a_start_past_the_quota_is_audited_and_not_made(opened: Opener) -> None:
    store, relay = await opened("ingest"), NotingRelay()
    tenant = STATE.owner.tenant_id

    def start(c: Any, job_id: str, revision: int) -> list[CreateJob]:
        state = STATE.model_copy(update={"start_job_id": job_id, "urls": ("https://example.com/a.pdf",), "revision": revision})
        unit = Unit(c, 1000.0, "/stageline/ingest", relay.telemetry)  # type: ignore[arg-type]
        if save_schedule(c, state):
            start_scheduled(unit, state, IngestSettings())
        return [CreateJob.read(out.value) for out in unit.outgoing]

    await store.transact(lambda c: accounts.save_tenant(c, tenant, "T", {"jobs_open": 1}, None, 1.0))
    [command] = await store.transact(lambda c: start(c, "a", 1))
    assert (command.job_id, command.owner, command.files[0].url) == ("a", STATE.owner, "https://example.com/a.pdf")
    assert await store.transact(lambda c: start(c, "a", 1)) == [], "a state that is read again starts nothing"
    assert await store.transact(lambda c: start(c, "b", 2)) == []
    [audited] = await store.read(lambda c: list(c.execute(text("SELECT body FROM audit")).scalars()))
    assert json.loads(audited)["code"] == "over_limit" and json.loads(audited)["job_id"] == "b"
