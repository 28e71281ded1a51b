"""Golden records: what was once on the wire is readable for ever. Never edited; `make docs` adds those of new types."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from contracts import MODELS, from_record, to_record
from tests.contracts.examples import example

GOLDEN = Path(__file__).parents[2] / "contracts" / "golden"


@pytest.mark.parametrize("type_", sorted(MODELS))
def test_every_type_has_a_golden_record_that_still_reads(type_: str) -> None:
    golden = json.loads((GOLDEN / f"{type_}.json").read_text())
    headers = [(name, value.encode()) for name, value in golden["headers"]]
    value = base64.b64decode(golden["value_base64"])
    message = from_record(value, headers, frozenset(MODELS))
    assert message == example(MODELS[type_])
    assert message.key == golden["key"]


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
    assert sum(t.startswith("stageline.job.") and "command" not in t for t in MODELS) == 8
    assert sum(t.startswith("stageline.file.") for t in MODELS) == 16
