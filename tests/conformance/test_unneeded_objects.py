"""Objects that nothing needs are collected; the orchestrator says what jobs refer to."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import text

from contracts import FindReferences, ReferencesFound
from services.ingest.adapters.admission import Admission
from services.ingest.adapters.background import object_collector
from services.ingest.adapters.background.object_collector import ObjectCollector
from services.ingest.adapters.background.object_deletion import Doomed, ObjectDeletion
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store import object_claims, read_model
from services.job_orchestrator.adapters.dispatch_store import SqlDispatchStore
from services.job_orchestrator.adapters.seal_store import SqlSealStore
from services.job_orchestrator.adapters.sql_store import Catalog, SqlJobStore
from services.job_orchestrator.adapters.steering_store import SqlSteeringStore
from services.job_orchestrator.ports import Stores
from services.job_orchestrator.publishing.references import ReferenceSearch
from shared import clock
from shared.errors import Retry
from shared.objects.access import ObjectMissing
from shared.objects.object_store import open_objects
from shared.processing.processor import BatchProcessor
from tests.conformance.conftest import Opener
from tests.contracts.examples import OTHERS
from tests.unit.fake_relay import NotingRelay


async def test_the_orchestrator_finds_what_jobs_refer_to(opened: Opener) -> None:
    store, relay = await opened("job_orchestrator"), NotingRelay()
    names = [f"t/{c * 2}/{c * 2 + 'ab' * 31}" for c in "abcd"]
    # Equal content of another job is another object.
    names.append(f"{names[1]}-{'1' * 16}")

    def enter(c: Any) -> None:
        insert = "INSERT INTO job (id, workflow_name, workflow_version, body) VALUES (:i, 'w', 1, :b)"
        for n in range(700):
            c.execute(text(insert), {"i": f"j{n:04}", "b": f'{{"options_blob": "{names[0]}"}}' if n == 650 else "{}"})
        lane = "INSERT INTO lane (job_id, lane_id, lease, body) VALUES ('j0001', 'f', 'l', :b)"
        c.execute(
            text(lane), {"b": f'{{"results": {{"text": {{"text_blob": "{names[1]}-{"0" * 16}", "index_blob": "{names[1]}"}}}}}}'}
        )

    await store.transact(enter)
    stores = Stores(partial(SqlJobStore, catalog=Catalog()), partial(SqlDispatchStore, slot=0), SqlSteeringStore, SqlSealStore)
    question = next(m for m in OTHERS if isinstance(m, FindReferences)).model_copy(update={"blobs": tuple(names)})
    await store.transact(lambda c: SqlSteeringStore(c).ask_references(question))
    search = ReferenceSearch(BatchProcessor("job_orchestrator", store, relay, relay.telemetry), stores)  # type: ignore[arg-type]
    await search.answer(question)
    [answer] = [ReferencesFound.read(row.value) for row in relay.sent if row.topic == "job.answers"]
    assert set(answer.blobs) == set(names[:2])
    assert await store.read(lambda c: SqlSteeringStore(c).reference_question()) is None


async def test_objects_without_a_reference_are_deleted_and_others_stay(opened: Opener, tmp_path: Path, monkeypatch: Any) -> None:
    store, objects = await opened("ingest"), open_objects(f"file://{tmp_path}/objects")
    free, used, of_job, claimed = [
        (await objects.of("t").put_object(word)).name for word in (b"free", b"used", b"job", b"claimed")
    ]
    await store.transact(lambda c: c.execute(text("INSERT INTO blob_ref (blob, file_id) VALUES (:b, 'f')"), {"b": used}) and None)
    await store.transact(lambda c: object_claims.claim(c, claimed, "g", clock.unix()))

    class Publisher:
        async def publish_command(self, topic: str, message: Any, trace: str | None) -> None:
            assert set(message.blobs) == {free, of_job}
            body = {"ok": True, "blobs": [of_job]}
            await store.transact(lambda c: read_model.save_decisions(c, [(message.command_id, body)], clock.unix()))

    async def discard(blobs: Any) -> None:
        assert not blobs

    gateway: Any = SimpleNamespace(store=store, objects=objects, publisher=Publisher(), discard_objects=discard)
    gateway.processor = SimpleNamespace(after_commit=[])
    gateway.deletion_wake = SimpleNamespace(set=lambda: None)
    assert await ObjectCollector(gateway).collect() == 0, "nothing is a day old"
    monkeypatch.setattr(object_collector, "AGE", -timedelta(minutes=1))
    assert await ObjectCollector(gateway).collect() == 1
    deletion = ObjectDeletion(gateway)
    for row in await deletion._due():
        await deletion.delete(row)
    for name in (used, of_job, claimed):
        assert await objects.of("t").get_object(name)
    try:
        await objects.of("t").get_object(free)
    except ObjectMissing:
        pass
    else:
        raise AssertionError("the object that nothing needs is still there")
    # Written again after it was found unneeded: it stays.
    again = (await objects.of("t").put_object(b"free")).name
    old = clock.unix() - 100
    await store.transact(lambda c: object_claims.doom(c, [again], old))
    await deletion.delete(Doomed(again, "t", old, 0))
    assert await objects.of("t").get_object(again) == b"free"


async def test_the_object_of_an_erased_job_waits_a_day_for_an_upload_without_an_answer(opened: Opener) -> None:
    store, blob, now = await opened("ingest"), "t/5f/" + "5f" * 32, clock.unix()

    def check(c: Any) -> None:
        object_claims.claim(c, blob, "a file whose command may still come", now)
        object_claims.doom(c, [blob], now)
        assert not object_claims.lease(c, blob, now), "the upload would lose its object"
        assert not object_claims.due(c, now + 1, 9), "nobody asks again and again"
        day = now + object_claims.CLAIM_S + 1
        assert object_claims.needed(c, [blob], day) == set(), "the collector finds it"
        object_claims.doom(c, [blob], day)
        assert object_claims.lease(c, blob, day)

    await store.transact(check)


async def test_what_is_uploaded_again_survives_a_deletion_that_stood_still(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, objects = await opened("ingest"), open_objects(f"file://{tmp_path}/objects")
    name = (await objects.of("t").put_object(b"erased")).name
    found_at = clock.unix()
    await store.transact(lambda c: object_claims.doom(c, [name], found_at))
    gateway: Any = SimpleNamespace(store=store, objects=objects, processor=SimpleNamespace(after_commit=[]))
    gateway.deletion_wake = SimpleNamespace(set=lambda: None)
    looked, real, stood = objects.written_at, clock.unix, [0.0]
    monkeypatch.setattr(clock, "unix", lambda: real() + stood[0])

    async def stopped(blob: str) -> float | None:
        """The process is stopped after its look, for longer than its lease. Meanwhile another replica takes an equal file."""
        seen = await looked(blob)
        stood[0] = object_claims.LEASE_S + 1
        await objects.of("t").put_object(b"erased")
        assert await store.transact(lambda c: object_claims.claim(c, blob, "again", clock.unix()).free), (
            "safe: the lease has ended"
        )
        return seen

    monkeypatch.setattr(objects, "written_at", stopped)
    deletion = ObjectDeletion(gateway)
    with pytest.raises(Retry):
        await deletion.delete(Doomed(name, "t", found_at, 0))
    monkeypatch.setattr(objects, "written_at", looked)
    await deletion.delete(Doomed(name, "t", found_at, 1))
    assert await objects.of("t").get_object(name) == b"erased"


@pytest.mark.parametrize("moment", ["before the claim", "before the name", "after the name"])
async def test_no_moment_of_a_deletion_takes_an_upload_of_equal_content(opened: Opener, tmp_path: Path, moment: str) -> None:
    """The file of an erased job is uploaded again. The deletion, which is due, runs as a whole at each moment of the upload."""
    store, objects = await opened("ingest"), open_objects(f"file://{tmp_path}/objects")
    name = (await objects.of("t").put_object(b"erased")).name
    found_at = clock.unix()
    await store.transact(lambda c: object_claims.doom(c, [name], found_at))
    gateway: Any = SimpleNamespace(store=store, objects=objects, processor=SimpleNamespace(after_commit=[]), limits=None)
    gateway.deletion_wake = SimpleNamespace(set=lambda: None)
    deletion, admission = ObjectDeletion(gateway), Admission(gateway, "t", {"file"})

    async def delete() -> None:
        for row in await deletion._due():
            await deletion.delete(row)

    if moment == "before the claim":
        await delete()
    upload = admission.objects("file")
    claim = upload.naming
    assert claim is not None

    async def claim_then_delete(blob: str, size: int) -> None:
        await claim(blob, size)
        if moment == "before the name":
            await delete()

    stored = await upload.announcing(claim_then_delete).put_object(b"erased")
    if moment == "after the name":
        await delete()
    assert stored.name == name and await objects.of("t").get_object(name) == b"erased"


async def test_an_upload_waits_for_a_deletion_that_is_in_progress(opened: Opener, tmp_path: Path) -> None:
    store, objects = await opened("ingest"), open_objects(f"file://{tmp_path}/objects")
    name = (await objects.of("t").put_object(b"erased")).name
    now = clock.unix()

    def lease(c: Any) -> bool:
        object_claims.doom(c, [name], now)
        return object_claims.lease(c, name, now)

    assert await store.transact(lease)

    async def waited(look: Any, timeout_s: float) -> Any:
        assert await store.read(look) is None, "the deletion has its lease"
        await objects.delete_unneeded(name)
        await store.transact(lambda c: object_claims.deleted(c, name))
        return await store.read(look)

    gateway: Any = Gateway.__new__(Gateway)
    gateway.store, gateway.objects, gateway.decisions = store, objects, SimpleNamespace(wait_until=waited)
    stored = await Admission(gateway, "t", {"file"}).objects("file").put_object(b"erased")
    assert await objects.of("t").get_object(stored.name) == b"erased"
