"""Inbox, transactions, jobs, sessions, read model and search: the same answers from both databases."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from contracts import FileRef, TaskStatus, Tenancy
from services.ingest.adapters.store import read_model as rm
from services.ingest.adapters.store.search_index import enter_search, search
from services.job_orchestrator.adapters.catalog import Catalog
from services.job_orchestrator.adapters.sql_store import SqlJobStore, next_due
from services.job_orchestrator.core.decide import BranchDue
from services.job_orchestrator.core.job import JOB_BRANCH
from services.session.adapters.sql_store import SqlSessionStore
from services.session.core.session import Session, SessionState
from shared.database.store import Store, forget_seen, mark_seen
from shared.errors import Retry, Stop
from tests.conformance.conftest import Opener
from tests.unit.orchestration import Drive, workflow

FLOW = workflow({"scope": "file"}, {"scope": "job"})
NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def test_the_inbox_accepts_each_id_once(opened: Opener) -> None:
    store = await opened("session")

    def check(connection: Connection) -> None:
        assert mark_seen(connection, ["a", "b", "a"], 1.0) == {"a", "b"}
        assert mark_seen(connection, ["b", "c"], 2.0) == {"c"}
        assert forget_seen(connection, 2.0, 1) == 1 and forget_seen(connection, 2.0, 5) == 1
        assert mark_seen(connection, ["a"], 3.0) == {"a"}

    await store.transact(check)


async def test_two_replicas_never_both_accept_an_id(opened: Opener) -> None:
    one, other = await opened("session"), await opened("session")
    ids = [f"m{n}" for n in range(200)]
    found = await asyncio.gather(
        *(s.transact(lambda c, o=order: mark_seen(c, o, 1.0)) for s in (one, other) for order in (ids, ids[::-1])),  # type: ignore[misc]
    )
    assert sorted(i for seen in found for i in seen) == sorted(ids)


async def test_a_failed_transaction_leaves_nothing(opened: Opener) -> None:
    store = await opened("session")

    def fail(connection: Connection) -> None:
        mark_seen(connection, ["a"], 1.0)
        raise Retry("test", "no")

    with pytest.raises(Retry):
        await store.transact(fail)
    assert await store.transact(lambda c: mark_seen(c, ["a"], 1.0)) == {"a"}


async def _jobs(opened: Opener) -> tuple[Store, Catalog]:
    store, catalog = await opened("job_orchestrator"), Catalog()
    await store.transact(lambda c: catalog.publish(c, FLOW))
    return store, catalog


async def test_a_decided_job_round_trips(opened: Opener) -> None:
    store, catalog = await _jobs(opened)
    drive = Drive(FLOW, files=3)
    for step in (
        lambda: drive.feed(drive.start),
        lambda: drive.report(drive.tasks[0], TaskStatus.OK, result={"a": ["é", 1, None]}),
    ):
        step()
        job = drive.job
        assert job is not None

        def keep(c: Connection, job: Any = job) -> Any:
            jobs = SqlJobStore(c, catalog)
            jobs.load({job.id: {JOB_BRANCH}})
            jobs.save([(job, list(job.branches), None)])
            remembered, decoded = (
                SqlJobStore(c, known).load({job.id: {JOB_BRANCH, "f1"}})[job.id]
                for known in (catalog, _knowing(catalog.versions))
            )
            assert remembered == decoded and set(decoded.branches) <= {JOB_BRANCH, "f1"}
            return jobs.with_all_branches(decoded)

        assert await store.transact(keep) == job


def _knowing(versions: dict[tuple[str, int], Any]) -> Catalog:
    """Simulate a process that has just started: forget the caches."""
    unseen = Catalog()
    unseen.versions = versions
    return unseen


async def test_what_another_replica_wrote_or_a_rollback_took_back_is_not_remembered(opened: Opener) -> None:
    store, catalog = await _jobs(opened)
    drive = Drive(FLOW, files=1)
    drive.feed(drive.start)
    first = drive.job
    drive.report(drive.tasks[0], TaskStatus.OK)
    second = drive.job
    assert first is not None and second is not None and first != second

    def save(c: Connection, job: Any, known: Catalog, fail: bool = False) -> None:
        jobs = SqlJobStore(c, known)
        jobs.load({job.id: set(job.branches)})
        jobs.save([(job, list(job.branches), None)])
        if fail:
            raise Retry("test", "no")

    def load(c: Connection) -> Any:
        return SqlJobStore(c, catalog).load({first.id: set(second.branches)})[first.id]

    await store.transact(lambda c: save(c, first, catalog))
    assert await store.transact(load) == first
    with pytest.raises(Retry):
        await store.transact(lambda c: save(c, second, catalog, fail=True))
    assert await store.transact(load) == first
    await store.transact(lambda c: save(c, second, _knowing(catalog.versions)))
    assert await store.transact(load) == second


async def test_a_published_workflow_is_unchanged_for_a_release_with_more_fields(opened: Opener) -> None:
    store, _ = await _jobs(opened)
    body = FLOW.model_dump(mode="json")
    older = json.dumps(
        {**body, "steps": [{k: v for k, v in step.items() if k not in ("when", "timeouts")} for step in body["steps"]]}
    )
    await store.transact(lambda c: c.execute(text("UPDATE workflow SET body = :b"), {"b": older}) and None)
    await store.transact(lambda c: Catalog().publish(c, FLOW))
    other = FLOW.model_copy(update={"join": "all"})
    with pytest.raises(Stop, match="published and cannot change"):
        await store.transact(lambda c: Catalog().publish(c, other))


async def test_timers_come_due_in_order_and_a_refused_one_goes_unless_set_again(opened: Opener) -> None:
    store, catalog = await _jobs(opened)
    drive = Drive(FLOW, files=2)
    drive.feed(drive.start)
    job = drive.job
    assert job is not None
    await store.transact(lambda c: SqlJobStore(c, catalog).save([(job, list(job.branches), "trace")]))
    at = await store.read(next_due)
    assert at == job.branches["f0"].due_at
    assert await store.transact(lambda c: SqlJobStore(c, catalog).due_timers(at - 1, 10)) == []
    due = await store.transact(lambda c: SqlJobStore(c, catalog).due_timers(at, 10))
    assert {(d.branch_id, d.lease, trace) for d, trace in due} == {(f, job.branches[f].lease, "trace") for f in ("f0", "f1")}
    lease = job.branches["f0"].lease
    await store.transact(lambda c: SqlJobStore(c, catalog).clear_timers([BranchDue(job.id, "f0", lease)], at - 1))
    assert len(await store.transact(lambda c: SqlJobStore(c, catalog).due_timers(at, 10))) == 2, "set to a later time, it stays"
    await store.transact(lambda c: SqlJobStore(c, catalog).clear_timers([BranchDue(job.id, "f0", lease)], at))
    assert [d.branch_id for d, _ in await store.transact(lambda c: SqlJobStore(c, catalog).due_timers(at, 10))] == ["f1"]


async def test_replicas_deciding_on_one_job_do_not_overwrite_each_other(opened: Opener) -> None:
    one, catalog = await _jobs(opened)
    # A SQLite file has one process, and its one writer thread serialises the transactions.
    other = await opened("job_orchestrator") if one.shared else one
    drive = Drive(FLOW, files=1)
    drive.feed(drive.start)
    job = drive.job
    assert job is not None
    await one.transact(lambda c: SqlJobStore(c, catalog).save([(job, list(job.branches), None)]))

    def count(c: Connection) -> None:
        jobs = SqlJobStore(c, catalog)
        loaded = jobs.load({job.id: {JOB_BRANCH}})[job.id]
        jobs.save([(type(loaded)(**{**vars(loaded), "retries": loaded.retries + 1}), [], None)])

    await asyncio.gather(*(store.transact(count) for store in (one, other) for _ in range(20)))
    loaded = await one.read(lambda c: SqlJobStore(c, catalog).load({job.id: {JOB_BRANCH}}))
    assert loaded[job.id].retries == 40


async def test_a_job_created_twice_at_once_exists_once(opened: Opener) -> None:
    one, catalog = await _jobs(opened)
    drive = Drive(FLOW, files=1)
    drive.feed(drive.start)
    job = drive.job
    assert job is not None
    await one.transact(lambda c: SqlJobStore(c, catalog).save([(job, list(job.branches), None)]))
    other = await opened("job_orchestrator")
    with pytest.raises(Exception, match=r"store_unavailable|UNIQUE|duplicate"):
        await other.transact(lambda c: SqlJobStore(c, catalog).save([(job, list(job.branches), None)]))


async def test_sessions_and_their_files(opened: Opener) -> None:
    store = await opened("session")
    owner = Tenancy(tenant_id="t", tenant_name="T", user_name="u")
    session = Session("s", owner, SessionState.OPEN, NOW, NOW + timedelta(hours=1))
    file = FileRef(file_id="f", file_name="ä.pdf", blob_name="t/1", metadata={"k": [1, "é"]})

    def check(c: Connection) -> None:
        sessions = SqlSessionStore(c)
        assert sessions.session("s") is None
        sessions.save(session)
        sessions.add_file("s", 1, file)
        assert sessions.session("s") == session and sessions.files("s") == (file,) and sessions.file("s", "f") == file
        assert sessions.due(session.expires_at.timestamp() - 1, 5) == []
        assert list(sessions.due(session.expires_at.timestamp(), 5)) == ["s"]
        closed = Session("s", owner, SessionState.CLOSED, NOW, session.expires_at, 1, "j", "fp", 99)
        sessions.save(closed)
        assert sessions.session("s") == closed and list(sessions.due(2e9, 5)) == []

    await store.transact(check)


async def test_the_read_model_keeps_records_and_history_in_order(opened: Opener) -> None:
    store = await opened("ingest")
    job = {"id": "j", "company_id": "t", "x": "é"}

    def check(c: Connection) -> None:
        flow = text("SELECT workflow, stage, created_at FROM job_view")
        rm.save_jobs(c, [(1.0, job)], {})
        rm.save_jobs(c, [(2.0, {**job, "x": "new", "stage": "s"})], {"j": None})
        assert c.execute(flow).one() == (None, "s", 1.0)
        rm.save_jobs(c, [(3.0, {**job, "x": "new", "workflow": "w"})], {"j": None})
        assert c.execute(flow).one() == ("w", None, 1.0), "a search finds it by another workflow too"
        rm.save_files(c, [(1.0, {"id": "f", "company_id": "t", "deferred_session_id": "s", "job_id": None})])
        rm.save_files(c, [(1.0, {"id": "f", "company_id": "t", "deferred_session_id": None, "job_id": "j"})])
        rm.save_history(c, [("j", "1"), ("j", "2"), ("j", "3")])
        rm.save_decisions(c, [("c", {"ok": True})], 100_000.0)
        rm.save_decisions(c, [("c", {"ok": False})], 100_001.0)
        assert rm.records(c, "job_view", ["j", "missing"]) == {"j": {**job, "x": "new", "workflow": "w"}}
        assert c.execute(text("SELECT session_id, job_id FROM file_view")).one() == ("s", "j")
        assert c.execute(text("SELECT body FROM history WHERE job_id = 'j' ORDER BY id")).scalars().all() == ["1", "2", "3"]
        assert c.execute(text("SELECT body FROM decision")).scalars().all() == ['{"ok": true}']

    await store.transact(check)


TEXTS = {
    "one": "Invoice INV-2026-0042 for Café Müller, total 1,204.50 EUR",
    "two": "Contract about invoicing; mail to billing@acme.example",
    "three": "\x00odd\x00 bytes",
}


async def _index(opened: Opener) -> Store:
    store = await opened("ingest")

    def fill(c: Connection) -> None:
        for name, body in TEXTS.items():
            rm.save_files(c, [(1.0, {"id": name, "company_id": "t", "deferred_session_id": None, "job_id": "j"})])
            rm.await_index(c, [{"file_id": name, "tenant_id": "t", "file_name": f"{name}.pdf", "blob": "b"}])
            enter_search(c, SimpleNamespace(file_id=name, tenant_id="t", file_name=f"{name}.pdf", blob="b"), body)
        assert c.execute(text("SELECT count(*) FROM index_pending")).scalar() == 0

    await store.transact(fill)
    return store


@pytest.mark.parametrize(
    ("words", "hits"),
    [
        ("invoice", {"one"}), ("INVOICE 1,204.50", {"one"}), ("inv-2026-0042", {"one"}), ("0042-inv", set()), ("cafe", {"one"}),
        ("Café müller", {"one"}), ("invoic*", {"one", "two"}), ("acme", {"two"}), ("billing@acme.example", {"two"}),
        ("invoice contract", set()), ("two.pdf", {"two"}), ("odd bytes", {"three"}), ('"', set()), ("' | !", set()), ("* ()", set()),
    ],
)  # fmt: skip
async def test_the_same_words_find_the_same_files(opened: Opener, words: str, hits: set[str]) -> None:
    store = await _index(opened)
    found = await store.read(lambda c: search(c, "t", words, 10))
    assert {r["file_id"] for r in found} == hits
    assert await store.read(lambda c: search(c, "other tenant", words, 10)) == []


async def test_a_second_text_of_a_file_replaces_the_first(opened: Opener) -> None:
    store = await _index(opened)
    row = SimpleNamespace(file_id="one", tenant_id="t", file_name="one.pdf", blob="b2")
    await store.transact(lambda c: enter_search(c, row, "something else"))
    assert await store.read(lambda c: search(c, "t", "invoice", 10)) == []
    (hit,) = await store.read(lambda c: search(c, "t", "something", 10))
    assert hit["file_id"] == "one" and "[something]" in hit["snippet"]


async def test_whatever_is_searched_for_is_answered(opened: Opener) -> None:
    store = await _index(opened)
    queries: list[str] = []

    @settings(max_examples=150, suppress_health_check=list(HealthCheck), database=None)
    @given(st.text(min_size=1, max_size=40))
    def collect(words: str) -> None:
        queries.append(words)

    collect()
    for words in queries:
        assert isinstance(await store.read(lambda c, w=words: search(c, "t", w, 10)), list)  # type: ignore[misc]
