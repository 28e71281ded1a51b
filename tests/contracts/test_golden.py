"""Golden records: a record that was once written stays readable. They never change; `make docs` adds those of new types."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary_event, to_binary_event, to_structured_event
from cloudevents.core.formats.json import JSONFormat

from contracts import MODELS, from_record, to_record
from contracts.alfred import AlfredEvent
from contracts.registry import released
from tests.contracts.corpus import GOLDEN, pins
from tests.contracts.examples import example


@pytest.mark.parametrize("type_", sorted(MODELS))
def test_every_type_has_a_golden_record_that_still_reads(type_: str) -> None:
    golden = json.loads((GOLDEN / f"{type_}.json").read_text())
    headers = [(name, value.encode()) for name, value in golden["headers"]]
    value = base64.b64decode(golden["value_base64"])
    message = from_record(value, headers, frozenset(MODELS))
    assert message == example(MODELS[type_])
    assert message.key == golden["key"]


def test_the_corpus_is_as_it_was_released() -> None:
    known = pins()
    assert known == {str(p.relative_to(GOLDEN)): hashlib.sha256(p.read_bytes()).hexdigest() for p in GOLDEN.glob("*/*.jsonl")}
    assert set(known) == {f"{type_}/{version}.jsonl" for type_ in MODELS for version in released(type_)}, "run `make docs`"


@pytest.mark.parametrize("name", sorted(pins()))
def test_every_record_that_was_ever_written_still_reads(name: str) -> None:
    type_ = name.partition("/")[0]
    lines = (GOLDEN / name).read_text().splitlines()
    assert len(set(lines)) >= 20
    for line in lines:
        golden = json.loads(line)
        headers = [(header, value.encode()) for header, value in golden["headers"]]
        message = from_record(golden["value"].encode(), headers, frozenset({type_}))
        again = to_record(message, "/stageline/golden")
        assert json.loads(again.value) == json.loads(golden["value"]), "reading and writing keeps the content"
        assert again.key.decode() == golden["key"] and message.message_id == dict(golden["headers"])["ce_id"]


@pytest.mark.parametrize("type_", sorted(MODELS))
def test_the_public_cloudevents_library_reads_our_records_and_we_read_its(type_: str) -> None:
    model = MODELS[type_]
    for line in (GOLDEN / type_ / f"{model.VERSION}.jsonl").read_text().splitlines():
        golden = json.loads(line)
        ours = to_record(model.read(golden["value"]), "/stageline/golden")
        foreign = from_binary_event(KafkaMessage(headers=dict(ours.headers), key=ours.key, value=ours.value), JSONFormat())
        assert (foreign.get_id(), foreign.get_type()) == (dict(golden["headers"])["ce_id"], type_)
        assert foreign.get_dataschema() == model.data_schema()
        for theirs in (to_binary_event(foreign, JSONFormat()), to_structured_event(foreign, JSONFormat())):
            value = theirs.value if isinstance(theirs.value, bytes) else str(theirs.value).encode()
            headers = [(k, v if isinstance(v, bytes) else str(v).encode()) for k, v in theirs.headers.items()]
            assert from_record(value, headers, frozenset({type_})) == model.read(golden["value"])


@pytest.mark.parametrize("type_", sorted(MODELS))
def test_binary_mode_round_trip(type_: str) -> None:
    message = example(MODELS[type_])
    record = to_record(message, "/stageline/test")
    names = [name for name, _ in record.headers]
    assert names[:2] == ["content-type", "ce_specversion"]
    assert {"ce_id", "ce_source", "ce_type", "ce_time", "ce_subject"} <= set(names)
    assert from_record(record.value, record.headers, frozenset({type_})) == message


@pytest.mark.parametrize("type_", sorted(MODELS))
def test_structured_mode_is_read(type_: str) -> None:
    message = example(MODELS[type_])
    envelope = {
        "specversion": "1.0",
        "id": message.message_id,
        "source": "/x",
        "type": type_,
        "data": json.loads(message.to_json()),
    }
    headers = [("Content-Type", b"Application/CloudEvents+json; charset=utf-8")]
    assert from_record(json.dumps(envelope).encode(), headers, frozenset({type_})) == message


def test_there_are_eight_job_and_sixteen_file_events() -> None:
    assert sum(issubclass(m, AlfredEvent) and t.startswith("stageline.job.") for t, m in MODELS.items()) == 8
    assert sum(issubclass(m, AlfredEvent) and t.startswith("stageline.file.") for t, m in MODELS.items()) == 16
