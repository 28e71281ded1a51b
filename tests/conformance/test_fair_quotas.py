"""Quotas and turns on both databases, with two replicas."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import text

from services.ingest.adapters.background.retention import _OLD
from services.ingest.adapters.store import accounts, object_claims, operations, row_turns, uploads, workflow_quotas
from services.ingest.adapters.store.quotas import Limits, OverLimit, Quotas
from services.ingest.adapters.store.reservations import Place, job_place, open_jobs, used_today
from services.ingest.dialects.invopop import store as silo
from services.ingest.settings import IngestSettings
from shared import clock
from shared.database.store import Store, table_of
from tests.conformance.conftest import Opener
from tests.conformance.test_ingest_stores import add_job, row

QUOTAS = {"jobs_open": 1, "files_per_day": 1, "bytes_per_day": 100}


async def replicas(opened: Opener, quotas: dict[str, int]) -> list[Limits]:
    stores = [await opened("ingest") for _ in range(2)]
    await stores[0].transact(lambda c: accounts.save_tenant(c, "t", "T", quotas, None, 1.0))
    return [Limits(store, IngestSettings()) for store in stores]


async def granted(calls: list[Callable[[], Awaitable[Any]]]) -> int:
    """How many of the calls pass; a database that is busy is asked again, as a client would."""

    async def one(call: Callable[[], Awaitable[Any]]) -> bool:
        try:
            await call()
        except OverLimit:
            return False
        return True

    return sum(await asyncio.gather(*(one(call) for call in calls)))


@pytest.mark.parametrize("quota", sorted(QUOTAS))
async def test_ten_at_once_cannot_pass_one_place(opened: Opener, quota: str) -> None:
    both = await replicas(opened, {quota: QUOTAS[quota]})

    def place(n: int) -> Place:
        return job_place(f"j{n}") if quota == "jobs_open" else Place(f"f{n}", files=1, bytes=60)

    calls = [lambda n=n: both[n % 2].reserve("t", [place(n)]) for n in range(10)]
    assert await granted(calls) == 1
    assert await granted(calls) == 1, "the one that has its place may repeat, and nobody else may"


async def test_resumable_uploads_take_their_places_at_once_too(opened: Opener) -> None:
    both = await replicas(opened, {"bytes_per_day": 100})
    caps = await both[0].quotas("t")

    def enter(n: int) -> Callable[[], Awaitable[Any]]:
        made = row(f"u{n}", length=60, expires_at=clock.unix() + 100)

        def work(c: Any) -> None:
            uploads.enter(c, made)
            uploads.reserve(c, made, caps, 0, 60, clock.unix())

        return lambda: both[n % 2].store.transact(work)

    assert await granted([enter(n) for n in range(10)]) == 1
    [kept] = await both[0].store.read(lambda c: list(c.execute(text("SELECT id FROM upload")).scalars()))
    await both[0].store.transact(lambda c: uploads.forget(c, kept))
    assert await granted([enter(11)]) == 1, "an abandoned upload gives its place back"


async def test_an_accepted_job_counts_before_the_read_model_has_it(opened: Opener) -> None:
    [limits, other] = await replicas(opened, {"jobs_open": 1})
    await limits.reserve("t", [job_place("a")])
    with pytest.raises(OverLimit):
        await other.reserve("t", [job_place("b")])
    assert await limits.store.read(lambda c: open_jobs(c, "t", 10, clock.unix())) == 1
    await limits.store.transact(lambda c: add_job(c, "a", "t", "completed"))
    assert await other.reserve("t", [job_place("b")]) == {"b"}


async def test_one_object_is_claimed_or_deleted_but_not_both(opened: Opener) -> None:
    first, second = await opened("ingest"), await opened("ingest")
    for n in range(10):
        blob = f"t/{n}"
        await first.transact(lambda c, b=blob: object_claims.doom(c, [b], 1.0))  # type: ignore[misc]
        claimed, leased = await asyncio.gather(
            first.transact(lambda c, b=blob: object_claims.claim(c, b, "f", 2.0).free),  # type: ignore[misc]
            second.transact(lambda c, b=blob: object_claims.lease(c, b, 2.0)),  # type: ignore[misc]
        )
        assert claimed != leased
    assert await first.read(lambda c: object_claims.needed(c, ["t/0", "x"], 3.0)) == {"t/0"}


async def test_undeletable_jobs_do_not_stand_before_the_others(opened: Opener) -> None:
    store: Store = await opened("ingest")

    def enter(c: Any) -> None:
        for tenant in ("a", "b"):
            c.execute(text("INSERT INTO retention (tenant_id, days) VALUES (:t, 0)"), {"t": tenant})
        for n in range(200):
            add_job(c, f"bad{n}", "a", "completed", float(n))
        add_job(c, "good", "b", "completed", 500.0)
        add_job(c, "later", "a", "failed", 600.0)

    await store.transact(enter)
    found = await store.read(lambda c: c.execute(_OLD, {"now": 1e9, "n": 2}).all())
    assert [r.tenant_id for r in found] == ["a", "b"], "tenants in turn"
    await store.transact(lambda c: [row_turns.set_turn(c, "retention", f"bad{n}", 1, 2e9) for n in range(200)] and None)
    found = await store.read(lambda c: c.execute(_OLD, {"now": 1e9, "n": 10}).all())
    assert {r.id for r in found} == {"good", "later"}


async def test_a_turn_is_taken_once(opened: Opener) -> None:
    first, second = await opened("ingest"), await opened("ingest")
    taken = await asyncio.gather(*(s.transact(lambda c: row_turns.claim(c, "bulk", "b", 5.0, 65.0)) for s in (first, second)))
    assert sorted(taken) == [False, True]
    assert not await first.transact(lambda c: row_turns.claim(c, "bulk", "b", 64.0, 99.0))
    assert await second.transact(lambda c: row_turns.claim(c, "bulk", "b", 66.0, 99.0))


async def test_actions_and_workflows_have_a_quota(opened: Opener) -> None:
    store, caps = await opened("ingest"), Quotas(1, workflows=2, actions=2)

    def admit(*actions: str) -> Any:
        return store.transact(lambda c: workflow_quotas.admit_actions(c, "t", caps, actions, 1000.0))

    assert await admit("text.ocr", "acme.one") == [] and await admit("acme.one", "acme.two") == []
    assert await admit("acme.two", "acme.three") == ["acme.three"]
    body = json.dumps({"workers": {"acme.served": 990.0, "acme.gone": 1.0}})
    backlog = table_of(operations.BacklogRow).insert()
    await store.transact(lambda c: c.execute(backlog, {"source": "o", "at": 1.0, "body": body}) and None)
    assert await admit("acme.served") == [] and await admit("acme.gone") == ["acme.gone"]
    await store.transact(lambda c: workflow_quotas.allow_action(c, "t", "acme.three", 1.0))
    assert await admit("acme.three") == [], "an admin allowed it"

    def flow(flow_id: str) -> Any:
        def enter(c: Any) -> None:
            if workflow_quotas.admit_flow(c, "t", caps, flow_id):
                silo.save_flow(c, "t", {"id": flow_id}, f"tenant.{flow_id}", 1, {"s1": {}}, 1.0)

        return lambda: store.transact(enter)

    assert await granted([flow(f"f{n}") for n in range(6)]) == 2
    [first, _] = await store.read(lambda c: list(c.execute(text("SELECT id FROM silo_flow ORDER BY id")).scalars()))
    await store.transact(lambda c: silo.delete_flow(c, "t", first, 2.0))
    assert await granted([flow("again")]) == 1, "a deleted workflow gives its place back"
    assert await store.read(lambda c: silo.shown_steps(c, "t", f"tenant.{first}")), "its jobs still show their steps"


async def test_usage_is_counted_once_for_an_upload(opened: Opener) -> None:
    store = await opened("ingest")
    counted = await asyncio.gather(
        *(store.transact(lambda c: object_claims.claim_and_count(c, "t", "t/b", "f", 5, 100.0)) for _ in range(5))
    )
    assert sum(claim.counted for claim in counted) == 1
    assert await store.read(lambda c: used_today(c, "t", 100.0)) == {"files": 1, "bytes": 5}
