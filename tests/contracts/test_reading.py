"""Strict writers, lenient readers: every spelling of the source documents."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts import (
    MODELS,
    CancelJob,
    FileStatus,
    JobStage,
    JobStageUpdate,
    UndecodableRecord,
    canonical_event_name,
    from_record,
    to_record,
)
from contracts.cloudevents import holds_nul
from contracts.file_events import FileStatusUpdate
from contracts.job_events import JobCreate, JobCreateFields
from contracts.names import alfred_names
from tests.contracts.examples import AT, example

ALL = frozenset(MODELS)
SEED = {
    "event_id": "a1b2c3d4-e5f6-g7h8-i9j0-k1l2m3n4o5p6", "event_type": "job_event_type", "event_time": "1652937600.00",
    "event": {
        "event_name": "job_create_event", "event_type": "job_event_type", "job_id": "12345678-1234-1234-1234-123456789abc",
        "user_name": "john_doe", "merge": "true", "metadata": "Batch processing of May invoices", "file_count": "150",
        "company_id": "87654321-4321-4321-4321-432143214321", "company_name": "Acme Corp",
        "file_urls": ["https://example.com/files/invoice1.pdf", "https://example.com/files/invoice2.pdf"],
        "creation_date": "2023-05-19T12:00:00Z", "update_date": "2023-05-19T12:30:00Z",
    },
}  # fmt: skip


def test_the_source_documents_own_sample_reads() -> None:
    event = from_record(json.dumps(SEED).encode(), [], ALL)
    assert isinstance(event, JobCreate)
    assert event.event.merge is True
    assert event.event.file_count == 150
    assert event.time == datetime(2022, 5, 19, 5, 20, tzinfo=UTC)
    assert event.event.metadata == "Batch processing of May invoices"


@pytest.mark.parametrize("name", ["job_create_event", "alfred_event_job_create", " JOB_CREATE_EVENT "])
def test_three_naming_schemes(name: str) -> None:
    body = {**SEED, "event": {**SEED["event"], "event_name": name}}  # type: ignore[dict-item]
    assert isinstance(from_record(json.dumps(body).encode(), [], ALL), JobCreate)


def test_the_documents_own_name_for_a_file_added() -> None:
    assert canonical_event_name("file_added_to_job_event") == "file_add_to_job_event"
    assert canonical_event_name("nonsense") is None
    for name in alfred_names():
        kind, _, verb = name.removesuffix("_event").partition("_")
        assert canonical_event_name(f"alfred_event_{kind}_{verb}") == name


@pytest.mark.parametrize(
    ("given_", "read"), [('{"a": 1}', {"a": 1}), ({"a": 1}, {"a": 1}), ("{not json", "{not json"), (None, None)]
)
def test_metadata_as_text_or_object(given_: object, read: object) -> None:
    body = {**SEED, "event": {**SEED["event"], "metadata": given_}}  # type: ignore[dict-item]
    event = from_record(json.dumps(body).encode(), [], ALL)
    assert isinstance(event, JobCreate) and event.event.metadata == read


@pytest.mark.parametrize(
    "text", ["2023-05-19T12:00:00Z", "2023-05-19T12:00:00", "1684497600", "1684497600.0", "2023-05-19T14:00:00+02:00"]
)
def test_times_as_text(text: str) -> None:
    body = {**SEED, "event": {**SEED["event"], "creation_date": text}}  # type: ignore[dict-item]
    event = from_record(json.dumps(body).encode(), [], ALL)
    assert isinstance(event, JobCreate) and event.event.creation_date == datetime(2023, 5, 19, 12, tzinfo=UTC)


def test_an_unknown_stage_is_kept_verbatim_by_readers_and_refused_by_writers() -> None:
    raw = example(JobStageUpdate).to_json().replace(b'"in_progress"', b'"being_shredded"')
    event = JobStageUpdate.read(raw)
    assert event.event.stage == "being_shredded" and not event.event.stage.known
    assert b'"being_shredded"' in event.to_json()
    with pytest.raises(ValidationError, match="is no JobStage"):
        JobStageUpdate.of(
            event_id="e",
            at=AT,
            company_id="c",
            company_name="n",
            job_id="j",
            creation_date=AT,
            update_date=AT,
            stage="being_shredded",
        )


def test_a_numeric_file_status_is_alfreds_code() -> None:
    raw = example(FileStatusUpdate).to_json().replace(b'"ocr"', b"6")
    event = FileStatusUpdate.read(raw)
    assert event.event.file_status is FileStatus.OCR and FileStatus.OCR.code == 6
    assert FileStatus.FINISHED.code is None


def test_sixteen_job_stages_and_four_ends() -> None:
    assert len(JobStage) == 16
    assert {s for s in JobStage if s.terminal} == {JobStage.COMPLETED, JobStage.FAILED, JobStage.INVALID, JobStage.CANCELLED}


def test_writers_are_strict_and_closed() -> None:
    fields = {k: v for k, v in example(JobCreate).event.model_dump().items() if v is not None}  # type: ignore[attr-defined]
    for change in ({"merge": "true"}, {"file_count": "1"}, {"surprise": 1}, {"creation_date": "2023-05-19T12:00:00Z"}):
        with pytest.raises(ValidationError):
            JobCreateFields(**{**fields, **change})


def test_readers_ignore_unknown_fields() -> None:
    body = json.loads(example(JobCreate).to_json())
    body["new"] = body["event"]["new"] = {"x": 1}
    assert JobCreate.read(json.dumps(body)) == example(JobCreate)


@pytest.mark.parametrize(
    ("value", "headers", "code"),
    [
        (None, [], "empty_value"),
        (b"", [("ce_type", b"stageline.job.start.v1")], "empty_value"),
        (b"\xff\xfe", [], "invalid_json"),
        (b"[]", [], "invalid_json"),
        (b"{}", [], "unknown_type"),
        (b"{}", [("ce_type", b"nonsense")], "unexpected_type"),
        (b"{}", [("ce_type", b"\xff")], "unexpected_type"),
        (b"{}", [("ce_type", b"stageline.job.start.v1")], "invalid_data"),
        (b'{"type": "stageline.job.start.v1"}', [("content-type", b"application/cloudevents+json")], "invalid_envelope"),
        (b"[" * 100_000, [], "invalid_json"),
    ],
)
def test_an_unreadable_record_gives_the_reason(value: bytes | None, headers: list[tuple[str, bytes]], code: str) -> None:
    with pytest.raises(UndecodableRecord) as error:
        from_record(value, headers, ALL)
    assert error.value.code == code and str(error.value)


@given(st.binary(max_size=300), st.lists(st.tuples(st.text(max_size=20), st.none() | st.binary(max_size=50)), max_size=5))
def test_hostile_records_never_raise_anything_else(value: bytes, headers: list[tuple[str, bytes | None]]) -> None:
    try:
        from_record(value, headers, ALL)
    except UndecodableRecord as error:
        assert error.code


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=8),
        lambda c: st.lists(c, max_size=3) | st.dictionaries(st.text(max_size=8), c, max_size=3),
        max_leaves=10,
    ),
    st.sampled_from(sorted(MODELS)),
)
def test_hostile_json_under_every_type_is_refused_by_name(value: object, type_: str) -> None:
    try:
        from_record(json.dumps(value).encode(), [("ce_type", type_.encode())], ALL)
    except UndecodableRecord as error:
        assert error.code in ("invalid_data", "empty_value") and str(error)


TYPE = JobCreate.TYPE.encode()


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param((("ce_type", TYPE),), id="no content type"),
        pytest.param((("CE_TYPE", TYPE), ("Content-Type", b"application/json")), id="other case"),
        pytest.param((("ce_type", TYPE), ("Content-Type", b"Application/JSON")), id="one in another case"),
        pytest.param((("ce_type", None), ("Ce_Type", TYPE), ("content-type", None)), id="null headers say nothing"),
        pytest.param((("content-type", b"application/json; charset=utf-8"), ("ce_type", TYPE)), id="with a parameter"),
    ],
)
def test_attributes_are_read_in_any_case(headers: tuple[tuple[str, bytes | None], ...]) -> None:
    assert isinstance(from_record(json.dumps(SEED).encode(), headers, ALL), JobCreate)


@pytest.mark.parametrize("name", ["content-type", "Content-Type"])
def test_structured_mode_in_any_case(name: str) -> None:
    envelope = {"specversion": "1.0", "type": JobCreate.TYPE, "data": SEED}
    headers = ((name, b"Application/CloudEvents+json; charset=UTF-8"), ("ce_type", b"not.looked.at"))
    assert isinstance(from_record(json.dumps(envelope).encode(), headers, ALL), JobCreate)


@pytest.mark.parametrize(
    ("id_", "reason"),
    [
        pytest.param("", "at least 1 character", id="empty"),
        pytest.param("x" * 201, "at most 200 characters", id="long"),
        pytest.param(["x"], "valid string", id="no text"),
    ],
)
def test_an_invalid_id_is_refused_with_the_field_and_the_reason(id_: object, reason: str) -> None:
    body = {**SEED, "event": {**SEED["event"], "job_id": id_}}  # type: ignore[dict-item]
    with pytest.raises(UndecodableRecord, match=f"event.job_id: .*{reason}"):
        from_record(json.dumps(body).encode(), (("ce_type", TYPE),), ALL)


def test_a_number_as_an_id_is_kept_as_its_text() -> None:
    body = {**SEED, "event": {**SEED["event"], "job_id": 17}}  # type: ignore[dict-item]
    event = from_record(json.dumps(body).encode(), (("ce_type", TYPE),), ALL)
    assert isinstance(event, JobCreate) and event.event.job_id == "17"


def test_to_record_carries_extra_headers_last() -> None:
    record = to_record(example(JobCreate), "/x", (("traceparent", b"t"),))
    assert record.headers[-1] == ("traceparent", b"t")


@pytest.mark.parametrize(("value", "found"), [
    (rb'{"a":"x\u0000y"}', True), (rb'{"a\u0000":1}', True), (rb'{"a":"x\\u0000y"}', False), (rb'{"a":"x\\\u0000y"}', True), (rb'{"a":"u0000"}', False),
])  # fmt: skip
def test_a_nul_character_is_found_without_false_alarms(value: bytes, found: bool) -> None:
    assert holds_nul(value) is found
    assert any("\x00" in text for pair in json.loads(value).items() for text in map(str, pair)) is found


def test_a_record_with_a_nul_character_is_refused_with_the_reason() -> None:
    with pytest.raises(UndecodableRecord, match=r"U\+0000"):
        from_record(rb'{"job_id":"a\u0000"}', [("ce_type", CancelJob.TYPE.encode())], frozenset({CancelJob.TYPE}))
