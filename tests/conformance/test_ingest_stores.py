"""The gateway's own tables (limits, nonces, uploads, entries, conversions) on both databases, and with two replicas."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.ingest.adapters.store import accounts, known_names, uploads
from services.ingest.adapters.store.audit import add_audit
from services.ingest.adapters.store.quotas import Limits, OverLimit
from services.ingest.adapters.store.read_model import JobRow
from services.ingest.dialects.invopop import store as silo
from services.ingest.dialects.pdftools import store as conversion
from services.ingest.settings import IngestSettings
from shared import clock
from shared.database.store import table_of
from shared.web.api_keys import Principal
from tests.conformance.conftest import Opener

WHO = Principal(tenancy=SimpleNamespace(tenant_id="t", user_name="ann"), role="admin")  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [1, 7, 50, 173])
async def test_two_replicas_give_no_more_than_the_limit_together(
    opened: Opener, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_700_000_000.0
    monkeypatch.setattr(clock, "unix", lambda: now)
    replicas = [Limits(await opened("ingest"), IngestSettings()) for _ in range(2)]

    async def take(number: int) -> bool:
        try:
            rate = await replicas[number % 2].take("s", limit)
        except OverLimit as error:
            assert 1 <= error.retry_after_s <= 60
            return False
        assert 0 <= rate.remaining < limit or limit == 1
        return True

    granted = sum([await take(n) for n in range(2 * limit + 20)])
    block = max(1, limit // 50)
    # One replica's unused share is not available to the other until the minute ends.
    assert limit - block < granted <= limit
    now += 60
    assert await take(0), "a new minute begins"


async def test_requests_at_once_are_counted_too(opened: Opener) -> None:
    limits = Limits(await opened("ingest"), IngestSettings())
    results = await asyncio.gather(*(limits.take("s", 30) for _ in range(60)), return_exceptions=True)
    refused = [r for r in results if isinstance(r, OverLimit)]
    # One minute may end during the test.
    assert len(refused) in (0, 30) and len(refused) + len([r for r in results if not isinstance(r, Exception)]) == 60


async def test_a_nonce_counts_once(opened: Opener) -> None:
    first, second = await opened("ingest"), await opened("ingest")
    stores = [first, second] * 4
    taken = await asyncio.gather(*(s.transact(lambda c: accounts.use_nonce(c, "app", "n-1", 100.0, 900.0)) for s in stores))
    assert sum(taken) == 1
    assert await first.transact(lambda c: accounts.use_nonce(c, "other", "n-1", 100.0, 900.0)), (
        "nonces of another application do not count"
    )
    assert await first.transact(lambda c: accounts.use_nonce(c, "app", "n-2", 2000.0, 900.0))
    assert not await first.transact(lambda c: accounts.use_nonce(c, "app", "n-2", 2001.0, 900.0))


def row(upload_id: str, **more: Any) -> dict[str, Any]:
    return {
        "id": upload_id, "tenant_id": "t", "tenant_name": "T", "user_name": "u", "session_id": "s", "file_name": "f", "content_type": "x/y",
        "metadata": {"a": [1]}, "said": "", "length": 10, "concat": "", "expires_at": 100.0, **more,
    }  # fmt: skip


async def test_an_upload_moves_forward_once(opened: Opener) -> None:
    store = await opened("ingest")
    parts = [uploads.Part(0, 6, "b1")]

    def check(c: Any) -> None:
        uploads.enter(c, row("u"))
        assert uploads.find(c, "u", "other") is None
        assert uploads.advance(c, "u", 0, parts, 200.0)
        assert not uploads.advance(c, "u", 0, [uploads.Part(0, 4, "b2")], 200.0), "another request has moved the offset"
        assert not uploads.advance(c, "u", 6, [uploads.Part(6, 5, "b3")], 200.0), "longer than the declared length"
        assert not uploads.mark_whole(c, "u", 50.0)
        assert uploads.advance(c, "u", 6, [uploads.Part(6, 4, "b4")], 200.0) and uploads.mark_whole(c, "u", 50.0)
        assert not uploads.mark_whole(c, "u", 50.0), "an upload is completed once"
        assert not uploads.claim(c, "u", 49.0, 60.0), "it is not due yet"
        assert (
            uploads.claim(c, "u", 51.0, 60.0) and not uploads.claim(c, "u", 51.0, 60.0) and uploads.claim(c, "u", 112.0, 60.0)
        ), "a lease ends"
        assert [p.blob for p in uploads.parts_of(c, "u")] == ["b1", "b4"] and uploads.needed(c, ["b1", "b9"]) == {"b1"}
        uploads.end(c, "u", "done")
        assert uploads.find(c, "u", "t").state == "done" and uploads.parts_of(c, "u") == []

    await store.transact(check)


async def test_uploads_expire_but_not_while_they_become_files(opened: Opener) -> None:
    store = await opened("ingest")

    def check(c: Any) -> None:
        uploads.enter(c, row("old"))
        uploads.enter(c, row("new", expires_at=300.0))
        uploads.enter(c, row("whole", length=3))
        uploads.advance(c, "whole", 0, [uploads.Part(0, 3, "w")], 100.0)
        uploads.mark_whole(c, "whole", 50.0)
        uploads.advance(c, "old", 0, [uploads.Part(0, 3, "o")], 100.0)
        assert uploads.expired(c, 150.0) == ["old"] and uploads.forget(c, "old") == ["o"] and uploads.expired(c, 150.0) == []

    await store.transact(check)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=5))
async def test_parts_in_their_order(opened: Opener, sizes: list[int]) -> None:
    store = await opened("ingest")
    run = clock.new_root()

    def check(c: Any) -> None:
        for n, size in enumerate(sizes):
            uploads.enter(c, row(f"{run}{n}", length=size, concat="partial"))
            uploads.advance(c, f"{run}{n}", 0, [uploads.Part(0, size, f"b{n}")], 100.0)
        uploads.enter(c, row(f"{run}f", length=None, concat="final"))
        assert uploads.join(c, f"{run}f", [f"{run}{n}" for n in range(len(sizes))], "t", 50.0) is None
        found = uploads.find(c, f"{run}f", "t")
        assert (found.state, found.length, found.position) == ("whole", sum(sizes), sum(sizes))
        starts = [p.start for p in uploads.parts_of(c, f"{run}f")]
        assert starts == [sum(sizes[:n]) for n in range(len(sizes))]
        uploads.forget(c, f"{run}f")

    await store.transact(check)


async def test_names_of_tags_and_values_are_kept_once_whatever_they_are(opened: Opener) -> None:
    store = await opened("ingest")
    names = ["total", "Ä ö", "a\0b", "x" * 10_000, "", "'; --"]
    record = {"company_id": "t", "fields": dict.fromkeys(names, 1), "tag_name": "total"}
    found = known_names.names_in(record) + known_names.names_in({"company_id": "t2", "fields": [1], "tag_name": None})
    for _ in range(2):
        await store.transact(lambda c: known_names.add_names(c, [*found, *found]))
    assert await store.read(lambda c: known_names.names(c, "t", "metadata")) == set(names)
    assert await store.read(lambda c: known_names.names(c, "t", "tag")) == {"total"}
    assert await store.read(lambda c: known_names.names(c, "t2", "metadata")) == set()


async def test_keys_of_jobs_and_entries_are_used_once(opened: Opener) -> None:
    store = await opened("ingest")

    def check(c: Any) -> None:
        first = silo.save_request(c, "t", "j1", "k", "f1", {}, 100.0)
        assert first.job_id == "j1" and silo.save_request(c, "t", "j2", "k", "f2", {}, 101.0).job_id == "j1", (
            "the key is the first job's"
        )
        assert silo.save_request(c, "other", "j2", "k", "f2", {}, 101.0).job_id == "j2", "another tenant may use the same key"
        assert silo.save_request(c, "t", "j3", "k", "f3", {}, 100.0 + silo.RETENTION_S + 1).job_id == "j3", "for two years"
        assert (
            silo.save_request(c, "t", "j4", None, "f4", {}, 100.0).job_id == "j4"
            and silo.save_request(c, "t", "j5", None, "f5", {}, 100.0).job_id == "j5"
        )
        assert silo.enter_entry(c, "t", {"id": "e1", "key": "k"}, 1.0) and not silo.enter_entry(
            c, "t", {"id": "e1", "key": "x"}, 1.0
        )
        assert not silo.enter_entry(c, "t", {"id": "e2", "key": "k"}, 1.0) and silo.enter_entry(c, "t", {"id": "e2"}, 1.0)

    await store.transact(check)


def add_job(c: Any, job_id: str, tenant: str, stage: str, at: float = 1.0) -> None:
    """A job's row in the read model."""
    job = {"id": job_id, "tenant_id": tenant, "created_at": at, "body": "{}", "stage": stage, "workflow": "w", "stage_since": at}
    c.execute(table_of(JobRow).insert(), job)


async def test_conversions_are_limited_and_expire(opened: Opener) -> None:
    store = await opened("ingest")

    def job(n: int, at: float) -> dict[str, Any]:
        return {"id": f"c{n}", "t": "t", "w": "w", "p": "p", "n": "", "o": "[]", "at": at}

    def check(c: Any) -> None:
        assert all(conversion.enter(c, job(n, 100.0), 3, 1000.0) for n in range(3))
        assert not conversion.enter(c, job(3, 101.0), 3, 1000.0), "the limit is reached"
        conversion.forget(c, "c0")
        assert conversion.enter(c, job(3, 101.0), 3, 1000.0) and conversion.find(c, "c3", "other") is None
        conversion.save_data(c, "d1", "c1", [["a", "b"]])
        assert conversion.enter(c, job(4, 1101.0), 3, 1000.0), "old conversions are deleted"
        assert conversion.find(c, "c1", "t") is None and conversion.data_options(c, "c1") == {}
        conversion.add_delivery(c, "j", "t", "url", "https://x", 10.0)
        assert conversion.due_deliveries(c, 10.0) == ([], True), "the job has not ended"
        add_job(c, "j", "t", "completed")
        assert [r.job_id for r in conversion.due_deliveries(c, 10.0)[0]] == ["j"]
        conversion.reschedule_delivery(c, "j", 1, 20.0)
        assert conversion.due_deliveries(c, 19.0)[0] == [] and conversion.due_deliveries(c, 20.0)[0][0].attempt == 1
        conversion.reschedule_delivery(c, "j", 1, None)
        assert conversion.due_deliveries(c, 99.0) == ([], False)
        add_audit(c, WHO, 5.0, "key.issue", "x")

    await store.transact(check)
