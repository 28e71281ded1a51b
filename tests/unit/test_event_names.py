"""Events under one name: in bodies, in filters, and in the answer to a filter that matches nothing."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from aiokafka import TopicPartition

from contracts import Message
from contracts.event_names import EVENT_NAMES, EventName, fault_in, spellings_of, typed_body, wanted
from contracts.job_events import JobFinished
from contracts.topics import FILE_EVENTS_TOPIC, JOB_ERASURES_TOPIC, JOB_EVENTS_TOPIC, SESSION_EVENTS_TOPIC
from services.notifier.adapters.feed import Entry
from services.notifier.core.shapes import Shape, Shapes
from tests.contracts.examples import example
from tests.gateway_app import BASE
from tests.notifier_app import notifier_app


@pytest.mark.parametrize("row", EVENT_NAMES, ids=lambda row: row.name)
def test_bodies_begin_with_the_name_and_stay_readable(row: EventName) -> None:
    message = example(row.model)
    body = Shapes(None).body(message, Shape.TYPED)
    assert json.loads(body) == {"type": row.name, **json.loads(message.to_json())}
    assert Entry(TopicPartition("t", 0), 0, message).text.encode() == body == typed_body(message)
    assert row.model.read(body) == message, "a reader of the contract ignores the name"


def test_the_vendors_shape_stays_the_vendors() -> None:
    assert "type" not in json.loads(Shapes(None).body(example(JobFinished), Shape.ALFRED))


def test_every_event_that_leaves_has_one_name() -> None:
    carried = {m for t in (JOB_EVENTS_TOPIC, FILE_EVENTS_TOPIC, SESSION_EVENTS_TOPIC) for m in t.models}
    assert {row.model for row in EVENT_NAMES if row.streamed} == carried
    unnamed = set(JOB_ERASURES_TOPIC.models) - {row.model for row in EVENT_NAMES}
    assert [m.__name__ for m in unnamed] == ["TenantErased"], "its tenant's endpoints are gone"
    spellings = [name for row in EVENT_NAMES for name in row.spellings]
    assert len(spellings) == len(set(spellings))


@pytest.mark.parametrize(
    "name", ["job.finished", "stageline.job.finished.v1", "job_finished_event", "alfred_event_job_finished", "job.*", "*"]
)
def test_a_filter_may_use_any_of_the_names(name: str) -> None:
    assert wanted([name], spellings_of(JobFinished)) and fault_in([name]) is None


@pytest.mark.parametrize("name", ["job.finish", "jobs.*", "JOB.FINISHED", "nothing", "webhook.test"])
def test_a_filter_that_matches_nothing_is_named_with_the_list(name: str) -> None:
    fault = fault_in(["job.*", name])
    assert fault is not None and repr(name) in fault and all(row.name in fault for row in EVENT_NAMES)


def test_a_stream_refuses_what_only_webhooks_carry() -> None:
    assert fault_in(["job.erased"]) is None
    assert "job.erased" in str(fault_in(["job.erased"], streamed=True))


async def test_the_routes_refuse_it(tmp_path: Path) -> None:
    async with notifier_app(tmp_path) as (app, key):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=BASE, headers={"x-api-key": key}) as http:
            hook = await http.post("/v1/webhooks", json={"url": "https://example.com/", "events": ["job.done"]})
            assert hook.status_code == 400 and "job.finished" in hook.json()["detail"]
            assert (await http.get("/v1/webhooks")).json() == {"result": []}
            stream = await http.get("/events/stream", params={"types": "job.*,file.finished"})
            assert stream.status_code == 400 and "file.done" in stream.json()["detail"]


def test_a_type_without_a_row_keeps_two_names() -> None:
    class Other(Message):
        TYPE = "stageline.other.happened.v1"

    assert spellings_of(Other) == ("other.happened", "stageline.other.happened.v1")
