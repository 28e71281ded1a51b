"""Records of older major versions are read as the newest type, step by step."""

from __future__ import annotations

import json
from typing import Any

import pytest

from contracts import MODELS, CancelJob, UndecodableRecord, from_record, to_record
from contracts.upcasters import UPCASTERS, Upcaster, upcast
from tests.contracts.examples import example

V1, V2, NEWEST = "planted.cancel.v1", "planted.cancel.v2", CancelJob.TYPE


def to_v2(data: Any) -> Any:
    """v1 had one text `who` where v2 has an owner."""
    return {**{k: v for k, v in data.items() if k != "who"}, "owner": {"tenant_id": data["who"]}}


def to_newest(data: Any) -> Any:
    """v2 called the reason `why`."""
    return {**{k: v for k, v in data.items() if k != "why"}, "reason": data["why"]}


CHAIN: dict[str, Upcaster] = {V1: (V2, to_v2), V2: (NEWEST, to_newest)}


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    for type_, step in CHAIN.items():
        monkeypatch.setitem(UPCASTERS, type_, step)


OLD = {"command_id": "c", "job_id": "j", "who": "t1", "why": "late", "issued_at": "2026-01-01T00:00:00Z"}


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize("structured", [False, True])
def test_the_oldest_is_read_as_the_newest(structured: bool) -> None:
    headers = [("content-type", b"application/cloudevents+json")] if structured else [("ce_type", V1.encode())]
    value = {"specversion": "1.0", "id": "c", "source": "/x", "type": V1, "data": OLD} if structured else OLD
    message = from_record(json.dumps(value).encode(), headers, frozenset({NEWEST}))
    assert isinstance(message, CancelJob) and (message.tenant, message.reason) == ("t1", "late")


@pytest.mark.usefixtures("planted")
def test_a_failed_upcast_is_undecodable_with_the_reason() -> None:
    with pytest.raises(UndecodableRecord, match="who"):
        from_record(b'{"command_id":"c","job_id":"j"}', [("ce_type", V1.encode())], frozenset({NEWEST}))


def test_a_circle_is_refused() -> None:
    with pytest.raises(ValueError, match="circle"):
        upcast("a", {}, {"a": ("b", dict), "b": ("a", dict)})


def test_every_chain_ends_in_a_type_that_exists() -> None:
    for type_ in UPCASTERS:
        assert type_ not in MODELS
        while type_ in UPCASTERS:
            type_ = UPCASTERS[type_][0]
        assert type_ in MODELS


@pytest.mark.parametrize("type_", sorted(MODELS))
def test_the_newest_passes_through_untouched(type_: str) -> None:
    record = to_record(example(MODELS[type_]), "/t")
    assert upcast(type_, json.loads(record.value)) == (type_, json.loads(record.value))
