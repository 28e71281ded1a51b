"""The end of a job is shown with the last of its files, whichever of the two topics is read first."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from contracts import JobStage, TaskStatus
from services.ingest.core import job_end, job_view
from services.ingest.core.waiting import known_here
from tests.unit.orchestration import Drive, workflow

FLOW = workflow({"retry": {"max_attempts": 1}}, {"scope": "job"})


def history(fail: int, cancel: bool) -> Drive:
    """An ended job of three files: `fail` of them failed, or the job was cancelled."""
    drive = Drive(FLOW, files=3)
    drive.feed(drive.start)
    for n, task in enumerate(list(drive.tasks)):
        drive.report(task, TaskStatus.KO if n < fail else TaskStatus.OK)
    if cancel and drive.job is not None and not drive.job.ended:
        drive.cancel()
    elif fail < 3:
        drive.report(drive.tasks[-1])
    assert drive.job is not None and drive.job.ended
    return drive


BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def read(record: dict[str, Any] | None, event: Any) -> dict[str, Any]:
    """The record after one event of either topic."""
    known = record or job_view.new_job("job-1", "t1", BEGAN)
    if event.event.KIND == "job_event":
        return job_end.apply_event(known, event)
    return job_end.file_ended(known) if job_end.ends_file(event) else known


@given(fail=st.integers(0, 3), cancel=st.booleans(), turns=st.lists(st.booleans(), max_size=60))
def test_any_order_of_the_two_topics_comes_to_the_same(fail: int, cancel: bool, turns: list[bool]) -> None:
    drive = history(fail, cancel)
    ours = [e for e in drive.events if e.event.KIND == "job_event"]
    theirs = [e for e in drive.events if e.event.KIND != "job_event"]
    expected: dict[str, Any] | None = None
    for event in drive.events:
        expected = read(expected, event)
    record, ended = None, 0
    for turn in [*turns, *([True] * len(ours)), *([False] * len(theirs))]:
        topic = ours if turn else theirs
        if not topic:
            continue
        event = topic.pop(0)
        record = read(record, event)
        ended += event.event.KIND != "job_event" and job_end.ends_file(event)
        shown = JobStage(record["stage"]).terminal
        last_said = not ours
        assert shown == (last_said and ended == 3), "neither sooner nor later"
        assert shown == (record["finish_date"] is not None) and bool(record["outputs"]) <= shown
        reason = known_here(record) or {"code": "asked"}
        assert shown == (reason["code"] == "ended") and (not last_said or shown or reason["code"] == "results_pending")
    assert record == expected and record is not None and record["ending"] is None
    assert drive.job is not None and record["stage"] == drive.job.stage.value


def test_an_end_that_is_held_back_says_what_is_missing() -> None:
    drive = history(0, False)
    record: dict[str, Any] | None = None
    for event in [e for e in drive.events if e.event.KIND == "job_event"]:
        record = read(record, event)
    assert record is not None and record["stage"] != "completed" and job_end.with_held_end(record)["stage"] == "completed"
    reason = known_here(record)
    assert reason is not None and reason["message"] == "the job is completed; 3 of 3 ends of its files are on the way here"
    assert reason["facts"] == {"stage": "completed", "file_ends": 3, "file_ends_read": 0}


def test_between_the_stage_and_the_last_event_a_record_waits_too() -> None:
    *before, _ = [e for e in history(0, False).events if e.event.KIND == "job_event"]
    record: dict[str, Any] | None = None
    for event in before:
        record = read(record, event)
    assert record is not None and record["ending"]
    reason = known_here(record)
    assert reason is not None and reason["message"] == "the job is completed; its last event is on the way here"


def test_an_end_without_the_count_is_shown_at_once() -> None:
    record: dict[str, Any] | None = None
    for event in [e for e in history(0, False).events if e.event.KIND == "job_event"]:
        if hasattr(event.event, "file_ends"):
            event = event.model_copy(update={"event": event.event.model_copy(update={"file_ends": None})})
        record = read(record, event)
    assert record is not None and record["stage"] == "completed" and record["finished_files"] == 3
