"""The read model knows what to do with every event that the gateway consumes."""

from __future__ import annotations

from typing import Any

from contracts.topics import ACCESS_EVENTS_TOPIC, SEAL_KEYS_TOPIC, TOPICS
from services.ingest.core.record_keys import keys_of
from services.ingest.projector import PROJECTIONS
from tests.contracts.examples import examples

CONSUMED = [t for t in TOPICS if "ingest" in t.consumers and t not in (ACCESS_EVENTS_TOPIC, SEAL_KEYS_TOPIC)]
"""Keys have a handler of their own (`shared/web/api_keys.py`)."""


def test_every_consumed_event_type_has_exactly_one_projection() -> None:
    assert set(PROJECTIONS) == {model for topic in CONSUMED for model in topic.models}


def test_the_keys_of_a_batch_hold_the_records_that_its_events_name() -> None:
    for event in examples().values():
        if type(event) not in PROJECTIONS:
            continue
        keys = keys_of([event])
        inner: Any = getattr(event, "event", event)
        if topic_of(event) == "job.events":
            assert keys.jobs == {inner.job_id}
        elif topic_of(event) == "file.events":
            assert keys.files == {getattr(inner, "file_id", None) or inner.file_log_id}
            named = {inner.job_id, getattr(inner, "previous_job_id", None)} - {None}
            assert keys.jobs <= keys.named_jobs == named
        elif topic_of(event) == "session.events":
            assert keys.sessions == {inner.session_id}
            assert keys.files == {f.file_id for f in getattr(inner, "files", ())} | (
                {inner.file.file_id} if hasattr(inner, "file") else set()
            )
        else:
            assert not keys.jobs | keys.files | keys.sessions


def topic_of(event: Any) -> str:
    return next(t.name for t in CONSUMED if type(event) in t.models)
