"""`@last`, logs, traces and events: what these commands read, and what they say when it is not there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import httpx
import pytest

from tests.unit.canned_gateway import JOB, OTHER, Gateway, serving
from tests.unit.recorded_commands import invoke


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with serving() as running:
        yield running


def asked(gateway: Gateway) -> tuple[str, str]:
    return gateway.requests[-1]


def test_last_is_the_job_submitted_from_here(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_text("hello")
    assert invoke(["submit", "a.pdf"], gateway.url, folder=str(tmp_path))[1] == f"{JOB}\n"
    assert invoke(["jobs", "cancel", "@last"], gateway.url, folder=str(tmp_path))[0] == 0
    assert asked(gateway) == ("POST", f"/v1/jobs/{JOB}/cancel")
    assert invoke(["jobs", "rerun", "@last"], gateway.url, folder=str(tmp_path))[0] == 0
    assert invoke(["jobs", "pause", "@last"], gateway.url, folder=str(tmp_path))[0] == 0
    assert asked(gateway) == ("POST", f"/v1/jobs/{OTHER}/pause"), "a rerun is a new job"


@pytest.mark.parametrize("verb", ["cancel", "terminate", "pause", "rerun", "erase"])
def test_last_is_never_the_job_of_somebody_else_for_a_verb_that_changes_it(gateway: Gateway, verb: str) -> None:
    more = ["--yes"] if verb == "erase" else []
    code, _, wrong = invoke(["jobs", verb, "@last", *more], gateway.url)
    assert code == 4 and "submitted" in wrong
    assert all(method == "GET" for method, _ in gateway.requests)


def test_a_damaged_memory_of_the_last_job_is_as_none(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "state" / "stageline").mkdir(parents=True)
    (tmp_path / "state" / "stageline" / "last-job.json").write_text("[")
    assert invoke(["jobs", "show", "@last"], gateway.url, folder=str(tmp_path))[0] == 0


@pytest.fixture
def logged(tmp_path: Path) -> Path:
    lines = {
        "ingest.log": [
            {"time": "2026-12-01T08:00:02.000", "level": "INFO", "service": "ingest", "message": "second", "job.id": JOB},
            {"time": "2026-12-01T08:00:04.000", "level": "ERROR", "service": "ingest", "message": "fourth \x1b[31m"},
        ],
        "session.log": [{"time": "2026-12-01T08:00:01.000", "level": "WARNING", "service": "session", "message": "first"}],
    }
    (tmp_path / "logs").mkdir()
    for name, found in lines.items():
        (tmp_path / "logs" / name).write_text("".join(json.dumps(line) + "\n" for line in found))
    with (tmp_path / "logs" / "session.log").open("ab") as stream:
        stream.write(b"no JSON \xff\n")
    return tmp_path


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], ["first", "second", "fourth"]), (["--level", "warning"], ["first", "fourth"]), (["session"], ["first"]),
        (["--job", JOB], ["second"]), (["--job", JOB[:8]], ["second"]), (["--limit", "1"], ["fourth"]),
        (["--since", "2026-12-01T08:00:02Z"], ["second", "fourth"]),
    ],
)  # fmt: skip
def test_logs_are_in_order_of_time_and_chosen(logged: Path, options: list[str], words: list[str]) -> None:
    code, said, wrong = invoke(["logs", *options, "--data-dir", str(logged)], None)
    assert code == 0, wrong
    assert [word for line in said.splitlines() for word in ("first", "second", "fourth") if word in line] == words
    assert "\x1b" not in said


def test_logs_as_json_are_whole_lines(logged: Path) -> None:
    said = invoke(["logs", "ingest", "--json", "--data-dir", str(logged)], None)[1]
    assert [json.loads(line)["message"] for line in said.splitlines()] == ["second", "fourth \x1b[31m"]


@pytest.mark.parametrize(("arguments", "code"), [(["logs"], 4), (["logs", "--level", "loud"], 2)])
def test_logs_that_are_not_there(tmp_path: Path, arguments: list[str], code: int) -> None:
    found, said, wrong = invoke([*arguments, "--data-dir", str(tmp_path)], None)
    assert found == code and said == "" and wrong.count("\n") == 1, wrong


def test_a_service_without_logs_is_not_found(logged: Path) -> None:
    code, _, wrong = invoke(["logs", "notifier", "--data-dir", str(logged)], None)
    assert code == 4 and "ingest" in wrong


def test_a_trace_says_when_each_event_came(gateway: Gateway) -> None:
    code, said, _ = invoke(["trace", JOB], gateway.url)
    assert code == 0 and "2026-11-30 08:15:00Z" in said and "job_stage_update" in said and "0.000 s" in said
    gateway.records["/v1/jobs/{}/history"] = {"result": [], "next": None}
    code, said, wrong = invoke(["trace", JOB], gateway.url)
    assert said == "" and "no event" in wrong


EVENT = {"event_time": 1_796_026_500.0, "event_id": "e-1", "event": {"job_id": JOB, "stage": "failed"}}


def test_events_are_lines_with_their_time_in_utc(gateway: Gateway) -> None:
    sent = json.dumps(EVENT)
    gateway.records["/events/stream"] = f"event: hello\ndata: {{}}\n\nid: 1\nevent: job.failed\ndata: {sent}\n\n"
    soon = httpx.Timeout(0.3)
    with mock.patch("tests.unit.canned_gateway.TEXT", "text/event-stream"), mock.patch("httpx.Timeout", lambda *_, **__: soon):
        code, said, wrong = invoke(["events"], gateway.url)
    assert code == 0, wrong
    assert said.startswith("2026-11-30 08:15:00Z  job.failed") and JOB in said


def test_events_say_when_the_notifier_is_away(gateway: Gateway) -> None:
    gateway.records["/events/stream"] = "<html>"
    with mock.patch("tests.unit.canned_gateway.TEXT", "text/html"):
        code, said, wrong = invoke(["events"], gateway.url)
    assert code == 3 and said == "" and wrong.count("\n") == 1, wrong
