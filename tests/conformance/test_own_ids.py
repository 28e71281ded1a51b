"""Ids that a caller chose: what another tenant has under the same id is never changed, and no answer tells of it. On both databases."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from sqlalchemy import Connection, text

from contracts import (
    DeleteSchedule,
    FileAdded,
    FileRef,
    JobErased,
    JobRequest,
    PublishWorkflow,
    ScheduleState,
    SetSchedule,
    Tenancy,
    to_record,
)
from services.ingest.adapters.store import erasures
from services.ingest.adapters.store import read_model as rm
from services.ingest.handlers import on_batch
from services.job_orchestrator.adapters.steering_store import SqlSteeringStore
from services.job_orchestrator.core.workflow import Workflow
from services.job_orchestrator.publishing.schedules import delete_schedule, set_schedule
from services.job_orchestrator.publishing.workflows import request_workflow
from services.notifier.registration import save_endpoint
from shared import clock
from shared.database.store import Store
from shared.processing.records import Inbound
from shared.processing.unit_of_work import Unit
from shared.telemetry.tracing import Telemetry
from tests.conformance.conftest import Opener

A, B = (Tenancy(tenant_id=t, tenant_name=t, user_name="ann") for t in ("a", "b"))


async def inside(store: Store, work: Any) -> Any:
    """Run `work(unit)` in a transaction."""

    def run(connection: Connection) -> Any:
        return work(Unit(connection, 1_000.0, "/t", Telemetry("t", "i")))

    return await store.transact(run)


async def test_a_webhook_keeps_its_address(opened: Opener) -> None:
    store = await opened("notifier")
    for tenant, url in (
        ("a", "https://a.example"),
        ("b", "https://b.example"),
        ("b", "https://b2.example"),
        ("a", "https://a2.example"),
    ):
        row = SimpleNamespace(endpoint_id="hook", tenant_id=tenant, url=url, shape=None)
        await store.transact(lambda c, row=row: save_endpoint(c, row, 1.0))  # type: ignore[misc]
    found = await store.read(lambda c: c.execute(text("SELECT tenant_id, url FROM endpoint ORDER BY tenant_id")).all())
    assert [tuple(row) for row in found] == [("a", "https://a2.example"), ("b", "https://b2.example")]


NIGHTLY = Workflow.model_validate({"name": "documents", "version": 1, "steps": [{"name": "s", "action": "noop", "scope": "job"}]})


async def test_a_schedule_keeps_its_owner(opened: Opener) -> None:
    store = await opened("job_orchestrator")

    def put(unit: Unit, owner: Tenancy, cron: str) -> None:
        command = SetSchedule(
            command_id=clock.new_root(), owner=owner, issued_at=clock.now(), schedule_id="nightly", cron=cron, job=JobRequest()
        )
        set_schedule(unit, SqlSteeringStore(unit.connection), NIGHTLY, command, None)

    def drop(unit: Unit, owner: Tenancy) -> None:
        command = DeleteSchedule(command_id=clock.new_root(), owner=owner, issued_at=clock.now(), schedule_id="nightly")
        delete_schedule(unit, SqlSteeringStore(unit.connection), command, None)

    def states(connection: Connection) -> dict[str, tuple[str, bool]]:
        rows = [ScheduleState.read(b) for b in connection.execute(text("SELECT body FROM schedule")).scalars()]
        return {s.owner.tenant_id: (s.cron, s.deleted) for s in rows}

    await inside(store, lambda unit: put(unit, A, "0 1 * * *"))
    await inside(store, lambda unit: drop(unit, B))
    await inside(store, lambda unit: put(unit, B, "0 2 * * *"))
    assert await store.read(states) == {"a": ("0 1 * * *", False), "b": ("0 2 * * *", False)}
    await inside(store, lambda unit: drop(unit, B))
    assert await store.read(states) == {"a": ("0 1 * * *", False), "b": ("0 2 * * *", True)}


async def test_a_workflows_name_is_its_tenants(opened: Opener) -> None:
    store = await opened("job_orchestrator")

    def ask(unit: Unit, owner: Tenancy, name: str) -> int:
        definition = {"name": name, "version": 1, "steps": [{"name": "s", "action": "noop", "scope": "job"}]}
        command = PublishWorkflow(
            command_id=clock.new_root(), owner=owner, issued_at=clock.now(), name=name, definition=definition
        )
        request_workflow(unit, SqlSteeringStore(unit.connection), command, None)
        return len(SqlSteeringStore(unit.connection).queued_workflows())

    platform = Tenancy(tenant_id="default")
    tried = [
        (A, "tenant.x", 1),
        (B, "tenant.x", 1),
        (A, "tenant.x", 2),
        (platform, "tenant.x", 2),
        (B, "documents", 2),
        (platform, "documents", 3),
    ]
    for owner, name, queued in tried:
        assert await inside(store, lambda unit, o=owner, n=name: ask(unit, o, n)) == queued, (owner.tenant_id, name)  # type: ignore[misc]


def added(owner: Tenancy, blob: str, session: str) -> FileAdded:
    file = FileRef(file_id="file-1", file_name=f"{owner.tenant_id}.pdf", blob_name=blob)
    return FileAdded(
        event_id=clock.new_root(),
        session_id=session,
        owner=owner,
        caused_by="c",
        occurred_at=clock.now(),
        file=file,
        file_count=1,
    )


async def test_a_files_record_is_its_tenants(opened: Opener) -> None:
    store = await opened("ingest")
    for event in (added(A, "a/ab/x", "s-a"), added(B, "b/ab/y", "s-b")):
        batch = [Inbound(event, "t", 0, 0, 0.0, None, to_record(event, "/t").value, ())]
        await inside(store, lambda unit, batch=batch: on_batch(unit, batch))  # type: ignore[misc]
    record = (await store.read(lambda c: rm.records(c, "file_view", ["file-1"])))["file-1"]
    assert (record["company_id"], record["file_name"], record["blob_name"]) == ("a", "a.pdf", "a/ab/x")


async def test_an_erasure_dooms_objects_of_its_tenant_alone(opened: Opener) -> None:
    store = await opened("ingest")
    event = JobErased(
        event_id="e",
        job_id="j",
        tenant_id="a",
        occurred_at=clock.now(),
        blobs=("a/ab/x", "b/ab/y", "a/../b/ab/y", "incoming/b/x"),
    )

    def work(unit: Unit) -> list[str]:
        erasures.add_refs(unit.connection, "b", "j", ["b/ab/z"])
        erasures.save_refs(
            unit.connection, [{**dict.fromkeys(erasures.BLOBS), "id": "f", "company_id": "b", "blob_name": "a/ab/x"}]
        )
        unit.connection.execute(text("INSERT INTO silo_job VALUES ('b', 'j', NULL, 'f', 1.0, '{}')"))
        erasures.erase_job(unit.connection, event, unit.now)
        return list(unit.connection.execute(text("SELECT blob FROM doomed_object")).scalars())

    assert await inside(store, work) == ["a/ab/x"]
    refs = await store.read(lambda c: list(c.execute(text("SELECT blob FROM blob_ref")).scalars()))
    assert refs == ["b/ab/z"], "a foreign name keeps no object alive, and b's reference is not a's to drop"
    assert await store.read(lambda c: c.execute(text("SELECT count(*) FROM silo_job")).scalar_one()) == 1
