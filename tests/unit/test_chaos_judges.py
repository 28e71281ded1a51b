"""Each judge of a chaos run finds a planted violation, and says nothing of a clean run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.harness.evidence import (
    BROKEN,
    Accepted,
    Answer,
    Applied,
    Attempt,
    Evidence,
    Fact,
    LogLine,
    Shown,
    Usage,
    Violation,
)
from tests.chaos.harness.judges import JUDGES, judged
from tests.chaos.harness.judges.processes import raised

Plant = Callable[[Evidence], Any]
NAMES = ("job_create_event", "job_start_event", "job_stage_update_event", "job_finished_event")


def events_of(job: str, session: str | None, files: int, began: float) -> list[Fact]:
    """The facts of a job that completed: four job events, two per file, and its state."""
    more: dict[str, Any] = {"job_create_event": {"file_count": files, "deferred_session_id": session}}
    more["job_stage_update_event"] = {"stage": "completed"}
    more["job_finished_event"] = {"finished_files": files, "file_ends": files}
    found = [
        Fact("job.events", name, f"{job}-e{n}", job, began + n, {"job_id": job, "sequence": n, **more.get(name, {})}, n)
        for n, name in enumerate(NAMES, 1)
    ]
    for n in range(files):
        inner = {"job_id": job, "file_id": f"{job}-f{n}"}
        found.append(Fact("file.events", "file_add_to_job_event", f"{job}-a{n}", job, began, inner))
        found.append(Fact("file.events", "file_done_event", f"{job}-d{n}", job, began + 3, inner))
    return [*found, Fact("job.state", "state", f"{job}-s", job, began + 6, {"sequence": 4, "stage": "completed"})]


def clean() -> Evidence:
    """Two jobs, one with two files, one erased, and a fault, judged well."""
    facts = [*events_of("a", "s1", 2, 100.0), *events_of("b", None, 0, 110.0), *events_of("gone", None, 0, 50.0)]
    facts += [Fact("job.state", "state", "", "gone", 60.0, None), Fact("job.erasures", "erased", "x", "gone", 59.0, {})]
    public = [f for f in facts if f.topic in ("job.events", "file.events")]
    attempts = [
        Attempt(where, f.event_id, f.event_id, f.job_id, 1, f.digest, f.at + 1, f.at + 1.1, 204)
        for where in ("steady", "moody") for f in public if f.topic == "job.events"
    ]  # fmt: skip
    shown = [Shown(f"c{n}", f.event_id, f.at) for n, f in enumerate(public)]
    accepted = [Accepted(0, "kafka_session", 100, frozenset({"completed"}), session_id="s1", files=2, files_end=True)]
    accepted += [
        Accepted(1, "v1", 110, frozenset({"completed"}), "b"),
        Accepted(2, "v1", 50, frozenset({"completed"}), "gone", erased=True),
    ]
    records: dict[str, Any] = {"a": {"stage": "completed", "file_count": 2, "files": [{}, {}]}, "gone": None}
    records["b"] = {"stage": "completed", "file_count": 0, "files": []}
    histories = {job: [f.event_id for f in public if f.job_id == job] for job in ("a", "b")}
    faults = [Applied("kill", "session", 104.0, 104.0), Applied("stop", "notifier", 300.0, 310.0)]
    return Evidence(
        faults, accepted, set(), facts, shown, attempts, ("steady", "moody"), records, histories, [],
        [LogLine("ingest", 105.0, "ERROR", "aiokafka", "Topic is gone")], [Usage("ingest", 100, 120, 1, 2)], [], [],
    )  # fmt: skip


def drop(event_id: str) -> Plant:
    return lambda e: e.facts.remove(next(f for f in e.facts if f.event_id == event_id))


def change(event_id: str, **inner: Any) -> Plant:
    """Other fields in one event."""

    def plant(e: Evidence) -> None:
        at = next(n for n, f in enumerate(e.facts) if f.event_id == event_id)
        e.facts[at] = dataclasses.replace(e.facts[at], inner={**(e.facts[at].inner or {}), **inner})

    return plant


def repeat(what: str, **other: Any) -> Plant:
    """The event a second time, with other attributes."""
    return lambda e: e.facts.append(dataclasses.replace(next(f for f in e.facts if f.event_id == what), **other))


def instead(what: str, **other: Any) -> Plant:
    """The event with other attributes."""

    def plant(e: Evidence) -> None:
        at = next(n for n, f in enumerate(e.facts) if f.event_id == what)
        e.facts[at] = dataclasses.replace(e.facts[at], **other)

    return plant


def attempt(event_id: str, **other: Any) -> Plant:
    """Other attributes of the last attempt to deliver an event."""

    def plant(e: Evidence) -> None:
        assert e.attempts is not None
        found = next(a for a in reversed(e.attempts) if a.event_id == event_id)
        for name, value in other.items():
            setattr(found, name, value)

    return plant


def add(part: str, *items: Any) -> Plant:
    return lambda e: getattr(e, part).extend(items)


ELSEWHERE = Accepted(9, "v1", 1, frozenset({"completed"}), "lost")
PLANTED: list[tuple[str, str, Plant]] = [
    ("a lost job", "accepted", add("accepted", ELSEWHERE)),
    ("a lost session", "accepted", add("accepted", dataclasses.replace(ELSEWHERE, job_id=None, session_id="s9"))),
    ("a job of nobody", "accepted", add("facts", *events_of("x", None, 0, 100.0))),
    ("no end", "one end", drop("b-e4")),
    ("two ends", "one end", repeat("b-e4", event_id="b-e5", inner={"sequence": 5})),
    ("an event after the end", "one end", repeat("b-e3", event_id="b-e5", inner={"sequence": 5})),
    ("a failure with nothing wrong", "truthful end", instead("b-e4", name="job_failed_event")),
    ("a gap in the sequence", "dense sequence", drop("b-e2")),
    ("a number twice", "dense sequence", change("b-e3", sequence=2)),
    ("out of order", "dense sequence", lambda e: (drop("b-e1")(e), add("facts", events_of("b", None, 0, 110.0)[0])(e))),
    ("a repeat with other bytes", "same repeat", repeat("b-e2", digest=99)),
    ("a file without an end", "files", drop("a-d1")),
    ("a file that ends twice", "files", repeat("a-d1", event_id="a-d9")),
    ("a missing file", "files", lambda e: (drop("a-d1")(e), drop("a-a1")(e))),
    ("a false count of finished files", "files", change("a-e4", finished_files=1)),
    ("a false number of ends", "file_ends", change("a-e4", file_ends=3)),
    ("a state that stays behind", "job.state", change("b-s", sequence=3)),
    ("a state of another stage", "job.state", change("b-s", stage="started")),
    ("no state", "job.state", drop("b-s")),
    ("a state of an erased job", "job.state", repeat("gone-s")),
    ("a gap in the stream", "stream", lambda e: e.shown.pop(3)),  # type: ignore[union-attr]
    ("a cursor twice", "stream", lambda e: e.shown.append(e.shown[0])),  # type: ignore[union-attr, index]
    ("an event twice", "stream", add("shown", Shown("c99", "a-e1", 103.0))),
    ("an event of nowhere", "stream", add("shown", Shown("c99", "zz", 103.0))),
    ("an event before its time", "stream order", lambda e: e.shown.insert(0, e.shown.pop(2))),  # type: ignore[union-attr]
    ("an attempt too soon", "Retry-After", lambda e: (attempt("b-e2", status=429, retry_after=5.0)(e), add("attempts", Attempt("moody", "b-e2", "b-e2", "b", 2, 2, 115, 116, 204))(e))),
    ("a webhook that never came", "webhook", lambda e: e.attempts.pop(1)),  # type: ignore[union-attr]
    ("a webhook that nobody accepted", "webhook", attempt("b-e2", status=500)),
    ("a webhook that was not answered", "webhook", attempt("b-e2", status=None)),
    ("a webhook of nowhere", "webhook", add("attempts", Attempt("moody", "zz", "zz", "b", 1, 0, 1, 2, 204))),
    ("another webhook id", "webhook id", attempt("b-e2", body_id="b-e9")),
    ("other bytes in a second attempt", "webhook id", add("attempts", Attempt("moody", "b-e2", "b-e2", "b", 2, 7, 200, 201, 204))),
    ("a number that goes back", "webhook id", lambda e: (attempt("b-e2", number=3)(e), add("attempts", Attempt("moody", "b-e2", "b-e2", "b", 1, 2, 200, 201, 204))(e))),
    ("two requests at a time", "webhook in flight", attempt("b-e2", ended=114.8)),
    ("another stage shown", "read model", lambda e: e.records["b"].update(stage="started")),  # type: ignore[index, union-attr]
    ("a file that is not shown", "read model", lambda e: e.records["a"]["files"].pop()),  # type: ignore[index]
    ("a job that is not shown", "read model", lambda e: e.records.update(b=None)),  # type: ignore[union-attr]
    ("an erased job that is shown", "read model", lambda e: e.records.update(gone={"stage": "completed"})),  # type: ignore[union-attr]
    ("a history with a hole", "history", lambda e: e.histories["b"].pop(1)),
    ("a service that does not heal", "health", add("not_ready", "http://127.0.0.1:1: 503")),
    ("a fault that was not applied", "harness", add("faults", Applied("disk_full", "disk_full", 1.0, 1.0, f"{BROKEN}: OSError()"))),
    ("a request without an answer", "no answer", lambda e: e.unanswered.add("j9")),
    ("a difference", "verify", add("verified", "b: its events know nothing of it")),
    ("a server error", "answer", add("answers", Answer("POST /v1/jobs", 500, 1.0))),
    ("an object that is left", "erasure", add("objects_left", "default/ab/cd")),
    ("an object that a job named", "erasure", lambda e: (e.unnamed.add("ef"), e.objects_left.append("default/ab/cd"))),  # type: ignore[union-attr]
    ("a traceback", "traceback", add("log_lines", LogLine("session", 104.5, "ERROR", "x", "broken", "Traceback\nKeyError: 1"))),
    ("an error without a fault", "error line", add("log_lines", LogLine("session", 10.0, "ERROR", "x", "broken"))),
    ("kept memory", "memory", add("usage", Usage("notifier", 123, 271, 1, 1))),
    ("idle CPU", "idle CPU", add("usage", Usage("kafka", 500, 900, 2.2, 6.5))),
]  # fmt: skip


def found(e: Evidence) -> list[Violation]:
    # A judge may index the facts, so a changed copy starts without an index.
    return judged(dataclasses.replace(e))


def test_a_clean_run_has_no_violation() -> None:
    assert [str(v) for v in found(clean())] == []


@pytest.mark.parametrize(("what", "rule", "plant"), PLANTED, ids=[what for what, _, _ in PLANTED])
def test_a_planted_violation_is_found(what: str, rule: str, plant: Plant) -> None:
    evidence = clean()
    plant(evidence)
    violations = found(evidence)
    assert rule in {v.rule for v in violations}, [str(v) for v in violations]
    assert all(v.expected and v.seen for v in violations)


def test_every_judge_has_its_planted_violation() -> None:
    silent = set(JUDGES)
    for _, _, plant in PLANTED:
        evidence = clean()
        plant(evidence)
        silent -= {judge for judge in silent if judged(dataclasses.replace(evidence), [judge])}
    assert not silent


def test_a_violation_names_job_and_nearest_fault() -> None:
    evidence = clean()
    evidence.facts.remove(next(f for f in evidence.facts if f.event_id == "b-s"))
    [violation] = found(evidence)
    assert violation.job_id == "b" and violation.nearest == "kill session, 10.0 s earlier"
    assert Evidence([Applied("stop", "notifier", 1.0, 9.0)]).nearest(5.0) == "stop notifier for 8 s (under way)"


def test_what_a_fault_explains_is_no_violation() -> None:
    evidence = clean()
    attempt("b-e2", ended=114.8)(evidence)
    evidence.faults.append(Applied("stop", "notifier-2", 112.0, 120.0))
    assert found(evidence) == []


def test_an_object_that_no_job_names_is_the_collectors() -> None:
    evidence = clean()
    evidence.unnamed.add("cd")
    evidence.objects_left = ["default/ab/cd"]
    assert found(evidence) == []


def test_what_came_after_the_topics_were_read_is_not_judged_by_them() -> None:
    evidence = dataclasses.replace(clean(), read_at=500.0)
    evidence.shown = [*(evidence.shown or ()), Shown("c99", "zz", 501.0)]
    evidence.attempts = [*(evidence.attempts or ()), Attempt("moody", "zz", "zz", "b", 1, 0, 501, 502, 204)]
    assert found(evidence) == []


def test_alike_log_lines_are_one_violation() -> None:
    evidence = clean()
    evidence.log_lines += [LogLine("session-2", float(n), "ERROR", "x", f"lost {n}") for n in range(1, 6)]
    [violation] = found(evidence)
    assert violation.count == 5 and "5 times" in str(violation)


def test_a_traceback_is_named_by_its_exception() -> None:
    text = (
        'Traceback (most recent call last):\n  File "a.py", line 1\nshared.errors.Retry: no store\n\nDebug source:\nGeneric {\n}'
    )
    assert raised(text) == "shared.errors.Retry: no store" and raised("") == ""
