"""Small parts of the runtime, without a broker."""

from __future__ import annotations

import json
import logging
import sys
from uuid import uuid5

import pytest
from aiokafka import TopicPartition
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from contracts.identity import NAMESPACE, derived
from services.ingest.adapters.store.search_index import match_expression
from services.ingest.core.file_names import clean_name
from services.job_orchestrator.core.policy import backoff_s, may_retry
from services.job_orchestrator.core.workflow import RetryPolicy, Workflow
from shared.embedded.kafka import new_cluster_id
from shared.kafka.producer_batches import key_hash as partition_hash
from shared.telemetry.logs import JsonFormatter
from shared.telemetry.trace_context import clean_traceparent, format_traceparent, new_traceparent, parse_traceparent
from shared.web.key_format import key_hash, new_key, well_formed
from stageline_kit.watermark import Watermark

TP = TopicPartition("t", 0)


def test_a_finished_offset_is_never_committed_past_an_open_one() -> None:
    mark = Watermark()
    for offset in (5, 6, 7):
        mark.open_task((TP, offset))
    mark.close_task((TP, 6))
    assert mark.advance() == {TP: 5}
    mark.close_task((TP, 5))
    assert mark.advance() == {TP: 7}
    assert mark.advance() == {}
    mark.close_task((TP, 7))
    assert mark.advance() == {TP: 8}
    mark.open_task((TP, 8))
    mark.drop_partitions([TP])
    mark.close_task((TP, 8))
    assert mark.advance() == {}


@given(st.binary(min_size=1, max_size=60), st.integers(1, 50))
def test_partitions_match_the_default_partitioner(key: bytes, count: int) -> None:
    assert partition_hash(key) % count == DefaultPartitioner()(key, list(range(count)), list(range(count)))


def test_keys_are_recognised_and_typos_detected() -> None:
    key = new_key()
    assert well_formed(key) and key.startswith("sl_") and len(key_hash(key)) == 64
    assert not well_formed(key[:-1] + ("0" if key[-1] != "0" else "1")) and not well_formed("") and not well_formed("sl_é")
    assert new_key() != key


@pytest.mark.parametrize(
    "value", [None, "", "00-1-2-3", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "00-" + "z" * 32 + "-" + "1" * 16 + "-01"]
)
def test_malformed_trace_contexts_are_ignored(value: str | None) -> None:
    assert parse_traceparent(value) is None


def test_trace_contexts_round_trip() -> None:
    made = new_traceparent()
    context = parse_traceparent(made)
    assert context is not None and format_traceparent(context) == made


@pytest.mark.parametrize("around", ["{}\r\n", " {}", "{}\n"])
def test_white_space_around_a_trace_context_is_not_passed_on(around: str) -> None:
    """An HTTP client refuses a header with a line end, so that a webhook with such a context was never sent."""
    made = new_traceparent()
    assert clean_traceparent(around.format(made)) == made
    assert clean_traceparent(made.replace("-", "\n-", 1)) is None


def test_backoff_grows_to_its_cap_and_repeats_exactly() -> None:
    policy = RetryPolicy(max_attempts=10, initial_s=1, cap_s=8, jitter=0)
    assert [backoff_s(policy, n, "s") for n in range(1, 7)] == [1, 2, 4, 8, 8, 8]
    assert backoff_s(RetryPolicy(backoff="linear", initial_s=2, jitter=0), 3, "s") == 6
    assert backoff_s(RetryPolicy(backoff="fixed", initial_s=2, jitter=0), 9, "s") == 2
    jittered = RetryPolicy(initial_s=100, jitter=0.2)
    assert 80 <= backoff_s(jittered, 1, "a") <= 120 and backoff_s(jittered, 1, "a") == backoff_s(jittered, 1, "a")
    assert may_retry(policy, 9, None) and not may_retry(policy, 10, None)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"version": 0}, "version"),
        ({"steps": []}, "steps"),
        ({"join": "some"}, "join"),
        ({"steps": [{"name": "a", "action": "b"}] * 2}, "unique"),
        ({"steps": [{"name": "a", "action": "b", "stage": "completed"}]}, "stage"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_bad_workflow_names_the_field(change: dict[str, object], field: str) -> None:
    good: dict[str, object] = {"name": "w", "version": 1, "steps": [{"name": "a", "action": "b"}]}
    Workflow.model_validate(good)
    with pytest.raises(ValueError, match=field):
        Workflow.model_validate({**good, **change})


def test_a_text_that_is_no_unicode_can_be_logged() -> None:
    line = JsonFormatter("test").format(logging.makeLogRecord({"msg": "a\ud800b", "level": "INFO"}))
    assert json.loads(line.encode())["message"] == "a\ud800b"


def test_logs_are_json_with_their_facts() -> None:
    record = logging.getLogger("x").makeRecord("x", 20, "f", 1, "done %s", ("it",), None, extra={"job.id": "j"})
    line = json.loads(JsonFormatter("session").format(record))
    assert line["message"] == "done it" and line["job.id"] == "j" and line["service"] == "session" and line["level"] == "INFO"


@pytest.mark.parametrize(
    ("words", "expression"),
    [("a b", '"a" "b"'), ('quo"te', '"quo""te"'), ("pre*", '"pre"*'), ("AND OR", '"AND" "OR"'), ("* ( )", None), ("", None)],
)
def test_search_words_are_taken_literally(words: str, expression: str | None) -> None:
    assert match_expression(words) == expression


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("../../x", "x"),
        ("C:\\a\\b.txt", "b.txt"),
        ("a\x00b\n", "ab"),
        ("x" * 400, "x" * 255),
        ("naïve.pdf", "naïve.pdf"),
        ("/", ""),
    ],
)
def test_file_names_are_names(name: str, clean: str) -> None:
    assert clean_name(name) == clean


def test_derived_ids_are_version_five_and_stable() -> None:
    assert derived("a", "b", 1) == derived("a", "b", 1) != derived("a", "b", 2)


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_a_derived_id_is_that_of_the_standard_library(parts: list[str]) -> None:
    try:
        expected = str(uuid5(NAMESPACE, "\x1f".join(parts)))
    except UnicodeEncodeError:
        return  # a surrogate, which no message holds
    assert derived(*parts) == expected


def test_contracts_import_nothing_but_pydantic() -> None:
    import subprocess

    code = "import sys, contracts; print([m for m in ('aiokafka','faststream','sqlalchemy','opentelemetry','fastapi','shared') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


@given(st.binary(min_size=16, max_size=16))
def test_a_cluster_id_is_never_taken_for_an_option(random: bytes) -> None:
    made = new_cluster_id(random)
    assert len(made) == 22 and not made.startswith("-")
