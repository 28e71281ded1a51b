"""The read model applies each numbered event once, without an inbox row per event. On both databases."""

from __future__ import annotations

import json

from sqlalchemy import text

from contracts import from_record, to_record
from contracts.topics import JOB_EVENTS_TOPIC
from services.ingest.adapters.store import read_model as rm
from services.ingest.handlers import dedup_policy
from shared.database.store import Store
from shared.processing.inbox import DedupPolicy
from tests.conformance.conftest import Opener
from tests.conformance.test_held_ends import ended_job, fold

ALLOWED = frozenset(m.TYPE for m in JOB_EVENTS_TOPIC.models)


async def history(store: Store) -> list[int]:
    """Numbers of the events in the job's history, as it is listed."""
    query = text("SELECT body FROM history WHERE job_id = 'job-1' ORDER BY id")
    bodies = await store.read(lambda c: c.execute(query).scalars().all())
    return [json.loads(body)["event"]["sequence"] for body in bodies]


async def test_repeats_change_nothing(opened: Opener) -> None:
    store = await opened("ingest")
    ours, _ = ended_job()
    await fold(store, [*ours[:3], *ours[:2]], 1_000.0)
    await fold(store, [*ours[1:], ours[-1]], 1_001.0)
    before = await store.read(lambda c: rm.records(c, "job_view", ["job-1"]))
    await fold(store, ours, 1_002.0)
    assert await history(store) == [e.event.sequence for e in ours] == list(range(1, len(ours) + 1))
    assert await store.read(lambda c: rm.records(c, "job_view", ["job-1"])) == before


async def test_a_missed_event_is_applied_when_it_is_sent_again(opened: Opener) -> None:
    store = await opened("ingest")
    ours, _ = ended_job()
    await fold(store, [*ours[:2], *ours[3:]], 1_000.0)
    shown = (await store.read(lambda c: rm.records(c, "job_view", ["job-1"])))["job-1"]
    assert shown["missing_events"] == [[3, 3]]
    await fold(store, [ours[2], ours[2]], 1_001.0)
    after = (await store.read(lambda c: rm.records(c, "job_view", ["job-1"])))["job-1"]
    assert after == {**shown, "missing_events": []}, "the record has the state of a later event"
    assert sorted(await history(store)) == [e.event.sequence for e in ours] and (await history(store))[-1] == 3


def test_events_without_a_number_use_the_inbox() -> None:
    ours, theirs = ended_job()
    assert set(map(dedup_policy, ours)) == {DedupPolicy.NONE} and set(map(dedup_policy, theirs)) == {DedupPolicy.BY_ID}
    record = to_record(ours[0], "/elsewhere")
    for instead in (b"", b'"sequence":0,', b'"sequence":-7,'):
        assert (
            dedup_policy(from_record(record.value.replace(b'"sequence":1,', instead), record.headers, ALLOWED))
            is DedupPolicy.BY_ID
        )
