"""Seal keys: what is destroyed stays destroyed, and nothing else does."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from contracts import SealedRecord, from_record
from contracts.cloudevents import Record
from contracts.sealing import (
    MAIN,
    KeyDestroyed,
    SealKeys,
    Tree,
    changed_parts,
    is_sealed,
    key_of,
    pack,
    part_of,
    puncture,
    unpack,
)
from shared.kafka.outgoing import Outgoing
from shared.kafka.refusals import MISSING, Refused, Unsendable
from shared.processing.outbox import Relay
from shared.processing.sealing import Sealing
from shared.telemetry.tracing import Telemetry
from stageline_kit.record_seals import RecordSeals

ROOT_DIR = Path(__file__).parents[2]
ROOT: Tree = {(0, 0): b"r" * 16}
SUBJECTS = st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=12, unique=True)
JSON = (("content-type", b"application/json"), ("ce_type", b"stageline.job.start.v1"))


def known(tree: Tree, key_id: str = "k", at: float = 1.0) -> SealKeys:
    keys = SealKeys(AESGCM)
    for part in sorted({part_of(node) for node in tree} | {MAIN}, reverse=True):
        keys.apply(key_id, part, pack(tree, part), at)
    return keys


@given(SUBJECTS, st.data())
def test_erasing_some_subjects_destroys_their_keys_and_leaves_all_others_as_they_were(
    subjects: list[str], data: st.DataObject
) -> None:
    erased = data.draw(st.sets(st.sampled_from(subjects)))
    before = {s: key_of(ROOT, s) for s in subjects}
    tree: Tree = ROOT
    for subject in erased:
        tree = puncture(tree, subject)
    assert {s: key_of(tree, s) for s in subjects} == {s: None if s in erased else before[s] for s in subjects}
    assert len(set(before.values())) == len(subjects)


@given(SUBJECTS)
def test_a_tree_read_from_its_parts_gives_the_same_keys(subjects: list[str]) -> None:
    tree: Tree = ROOT
    for subject in subjects[::2]:
        tree = puncture(tree, subject)
    keys = known(tree)
    assert [keys.key("k", s) for s in subjects] == [key_of(tree, s) for s in subjects]


@given(SUBJECTS)
def test_in_the_order_of_the_changed_parts_no_key_is_missing_in_between_and_at_the_end_it_is_gone(subjects: list[str]) -> None:
    keys, tree = known(ROOT), ROOT
    for erased in subjects:
        after = puncture(tree, erased)
        others = [s for s in subjects if key_of(after, s) is not None]
        for part in changed_parts(tree, after):
            keys.apply("k", part, pack(after, part), 1.0)
            assert all(keys.key("k", s) == key_of(ROOT, s) for s in others)
        assert keys.key("k", erased) is None
        tree = after


def test_an_erased_subject_leaves_no_node_from_which_its_key_follows() -> None:
    tree = puncture(ROOT, "job")
    assert len(tree) == 64
    assert puncture(tree, "job") == tree
    assert all(key_of({node: key}, "job") is None for node, key in tree.items())


@given(st.binary(min_size=1, max_size=200))
def test_a_sealed_record_opens_to_what_it_was(value: bytes) -> None:
    keys = known(ROOT)
    sealed = keys.seal(b"job", value, JSON, os.urandom(12))
    assert sealed is not None
    assert value not in sealed[0] or len(value) < 4
    with pytest.raises(SealedRecord):
        from_record(*sealed, frozenset())
    assert keys.open(b"job", *sealed) == (value, JSON)


def test_a_sealed_record_opens_for_its_own_job_alone_and_not_after_the_erasure() -> None:
    keys = known(ROOT)
    value, headers = keys.seal(b"job", b"{}", JSON, os.urandom(12)) or (b"", ())
    with pytest.raises(KeyDestroyed):
        keys.open(b"other", value, headers)
    with pytest.raises(KeyDestroyed):
        keys.open(b"job", value[:-1] + bytes([value[-1] ^ 1]), headers)
    erased = known(puncture(ROOT, "job"))
    with pytest.raises(KeyDestroyed):
        erased.open(b"job", value, headers)
    assert erased.seal(b"job", b"{}", JSON, os.urandom(12)) is None
    erased.apply("k", MAIN, None, 1.0)
    with pytest.raises(LookupError):
        erased.seal(b"job", b"{}", JSON, os.urandom(12))


def test_records_are_sealed_with_the_newest_key_and_opened_with_theirs() -> None:
    keys = known(ROOT, "old", 1.0)
    old = keys.seal(b"job", b"1", JSON, os.urandom(12))
    keys.apply("new", MAIN, pack({(0, 0): b"n" * 16}, MAIN), 2.0)
    assert keys.newest == "new"
    new = keys.seal(b"job", b"2", JSON, os.urandom(12))
    assert old is not None and new is not None
    assert [keys.open(b"job", *sealed)[0] for sealed in (old, new)] == [b"1", b"2"]


@pytest.mark.parametrize("text", ["AA==", "not base64", "////////////////////////////////////"])
def test_nodes_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"nodes|base64|depth|padding|Only"):
        unpack(text)


def test_the_example_of_the_protocol_page_is_right() -> None:
    nodes, subject, key = re.search(  # type: ignore[union-attr]
        r"the nodes `(\S+)` in part -1 give the subject `(\S+)` the key `(\w+)`", (ROOT_DIR / "contracts/PROTOCOL.md").read_text()
    ).groups()
    keys = SealKeys(AESGCM)
    keys.apply("k", MAIN, nodes, 1.0)
    assert keys.key("k", subject) == bytes.fromhex(key)


async def test_a_refused_record_is_given_back_as_it_was() -> None:
    sealing = Sealing(RecordSeals({}))
    sealing.seals.keys.apply("k", MAIN, pack(ROOT, MAIN), 1.0)
    sealing.on = True
    row = Outgoing("job.events", b"job", b"{}", JSON)

    class Refusing:
        async def send(self, rows: list[Outgoing], singly: bool) -> list[Refused]:
            assert [is_sealed(r.headers) for r in rows] == [True]
            return [Refused(r, MISSING) for r in rows]

    relay = Relay(cast(Any, None), Telemetry("t", "t"), "t")
    relay.sealing, relay.batches = sealing, cast(Any, Refusing())
    with pytest.raises(Unsendable) as refused:
        await relay.send_records([row])
    assert refused.value.refused[0].row is row


def test_a_worker_that_opened_sealed_tasks_seals_its_reports() -> None:
    seals = RecordSeals({})
    report = ("stage.reports", Record(b"job", b'{"result": 1}', JSON))
    presence = ("stage.workers", Record(b"w", b"{}", JSON))
    assert seals.sealed_records([report, presence]) == [report, presence], "a deployment that does not seal"
    seals.keys.apply("k", MAIN, pack(ROOT, MAIN), 1.0)
    (topic, sealed), other = seals.sealed_records([report, presence])
    assert topic == "stage.reports" and is_sealed(sealed.headers) and b"result" not in sealed.value and other == presence
    seals.keys.apply("k", MAIN, pack({}, MAIN), 1.0)
    assert seals.sealed_records([report, presence]) == [presence], "its job is erased"
