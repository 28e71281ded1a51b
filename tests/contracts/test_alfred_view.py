"""Alfred's view of our events: the ids, members and times that the vendor documents.

`alfred_events.json` holds the view of the smallest event of each name. `python -m tests.contracts.test_alfred_view` writes it again.
"""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from contracts import derived
from contracts.alfred import AlfredEvent
from contracts.alfred_view import (
    MEMBERS,
    company_id,
    event_view,
    flattened,
    metadata_id,
    names_it,
    tag_id,
    value_id,
)
from contracts.file_events import FILE_EVENTS, FileDone, FileStatusUpdate
from contracts.job_events import JOB_EVENTS, JobCreate, JobFailed, JobInvalid
from contracts.names import alfred_names
from tests.contracts.examples import AT, FIELDS, example

GOLDEN = Path(__file__).parent / "alfred_events.json"
EVENTS: tuple[type[AlfredEvent[Any]], ...] = (*JOB_EVENTS, *FILE_EVENTS)
NEVER_NULL = {"company_id", "job_id", "file_id", "file_log_id", "event_name", "event_type", "file_urls", "error_messages"}
LISTS = {JobCreate: ["file_urls"], JobFailed: ["error_messages"], JobInvalid: ["error_messages"]}


def link(path: str) -> str:
    return f"https://documents.example.com{path}"


def smallest(model: type[AlfredEvent[Any]]) -> dict[str, Any]:
    """The JSON of an event with the members that our contract requires alone, and a tenant whose id is a name."""
    fields = model.model_fields["event"].annotation.model_fields  # type: ignore[union-attr]
    needed = {n: FIELDS[n] for n, f in fields.items() if f.is_required() and n in FIELDS} | {"company_id": "acme"}
    dates = {n: FIELDS[n] for n in ("creation_date", "update_date", "job_id") if n in fields}
    body: dict[str, Any] = json.loads(model.of(event_id=derived("e", model.TYPE), at=AT, **{**needed, **dates}).to_json())
    return body


def views() -> dict[str, Any]:
    made = (event_view(smallest(model), link) for model in EVENTS)
    return {view["event"]["event_name"]: view for view in made}


def test_the_view_of_each_event_is_as_the_golden_file_has_it() -> None:
    assert views() == json.loads(GOLDEN.read_text())


def test_the_members_of_all_24_events_are_listed() -> None:
    assert set(MEMBERS) == set(alfred_names())


@pytest.mark.parametrize("model", EVENTS, ids=lambda m: m.TYPE)
def test_documented_members_are_there_and_ids_are_uuids(model: type[AlfredEvent[Any]]) -> None:
    for body in (smallest(model), json.loads(example(model).to_json())):
        view = event_view(body, link)
        inner = view["event"]
        assert set(MEMBERS[inner["event_name"]]) <= set(inner)
        assert all(inner[name] is not None for name in NEVER_NULL & set(inner))
        assert all(isinstance(inner[name], list) for name in LISTS.get(model, ()))
        ids = [value for name, value in inner.items() if name.endswith("_id") and value is not None]
        assert len(ids) > 1 and all(str(uuid.UUID(value)) == value for value in ids)
        assert view["event_time"] == round(body["event_time"]) and isinstance(view["event_time"], float)
        ours = {n: v for n, v in body["event"].items() if not n.endswith("_id") and n not in ("blob_url", "file_urls")}
        assert ours.items() <= inner.items(), "everything else is as on our topics"


def test_a_member_of_the_inner_object_never_replaces_one_of_the_envelope() -> None:
    view = event_view(json.loads(example(FileDone).to_json()), link)
    flat = flattened(view)
    assert {**view["event"], **view} == flat and flat["event"] == view["event"]
    assert flat["event_name"] == "file_done_event" and flat["file_id"] == view["event"]["file_id"]
    assert set(view) & set(view["event"]) == {"event_type"} and flat["event_type"] == view["event_type"] == "file_event"


def test_ids_are_derived_and_stay() -> None:
    assert company_id("acme") == "3ba325fc-3067-563a-bff1-27266bb0e540"
    assert (
        tag_id("acme", "invoice") == "20d4b498-d7d6-54ad-8f4b-67c3e0c4b963"
        and metadata_id("acme", "total") == "79a5a30c-daa9-558b-9b5c-394c5a04b1b6"
        and value_id("f", "total") == "c2229622-512c-5ee3-97ac-a9e05c2925fe"
    )
    assert tag_id("acme", "invoice") != tag_id("other", "invoice") != metadata_id("other", "invoice")
    assert value_id("f", "total") != value_id("g", "total")
    own = "6741B36A-35ac-43c5-8d61-ad1393cfbe6f"
    assert company_id(own) == own.lower(), "the id that the company had at the vendor"


def test_an_id_is_found_by_uuid_in_either_case_or_by_name() -> None:
    known = tag_id("acme", "invoice")
    assert all(names_it(given, known, "invoice") for given in (known, known.upper(), "invoice"))
    assert not any(names_it(given, known, "invoice") for given in ("Invoice", "letter", tag_id("acme", "letter"), ""))


def test_a_tag_that_has_a_uuid_already_keeps_it() -> None:
    body = json.loads(example(FileStatusUpdate).to_json())
    body["event"]["tag_id"] = "6741b36a-35ac-43c5-8d61-ad1393cfbe6f"
    assert event_view(body, link)["event"]["tag_id"] == "6741b36a-35ac-43c5-8d61-ad1393cfbe6f"


def test_addresses_of_files_are_those_of_the_gateway_or_remote() -> None:
    body = json.loads(example(JobCreate).to_json())
    body["event"] |= {"file_urls": ["https://example.com/a.pdf"], "uploaded_ids": ["f-1", "f-2"]}
    inner = event_view(body, link)["event"]
    assert inner["file_urls"] == ["https://example.com/a.pdf", link("/api/file/download/f-1"), link("/api/file/download/f-2")]
    assert "uploaded_ids" not in inner
    done = json.loads(example(FileDone).to_json())
    assert event_view(done, link)["event"]["blob_url"] == link(f"/api/file/download/{done['event']['file_id']}")
    done["event"]["blob_url"] = "https://example.com/a.pdf"
    assert event_view(done, link)["event"]["blob_url"] == "https://example.com/a.pdf"


def test_names_in_the_vendors_other_spellings_have_their_members_too() -> None:
    body = smallest(FileStatusUpdate)
    body["event"]["event_name"] = "alfred_event_file_status_update"
    assert set(MEMBERS["file_status_update_event"]) <= set(event_view(body, link)["event"])


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(views(), indent=1, ensure_ascii=False) + "\n")
