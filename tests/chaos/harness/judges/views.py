"""Judges of what is shown and kept: health, the read model, `stageline verify`, HTTP answers, and the object store after erasure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tests.chaos.harness.evidence import BROKEN, Evidence, Violation, end_of


def read_model_agrees(e: Evidence) -> Iterator[Violation]:
    """`GET /v1/jobs/{id}` and its history say what the events say; an erased job is 404."""
    for job_id, events in e.job_events() if e.records is not None else ():
        record = (e.records or {}).get(job_id)
        if job_id in e.erased:
            if record is not None:
                yield e.violation("read model", "404 for an erased job", f"stage {record.get('stage')}", job_id)
            continue
        if record is None:
            yield e.violation("read model", "the job", "404", job_id)
            continue
        end = next(((f, end) for f in events if (end := end_of(f))), None)
        if end is not None and record.get("stage") != end[1]:
            yield e.violation("read model", f"stage {end[1]}", record.get("stage"), job_id)
        count, shown = (events[0].inner or {}).get("file_count"), len(record.get("files", []))
        if count is not None and (record.get("file_count"), shown) != (count, count):
            yield e.violation("read model", f"{count} files", f"file_count {record.get('file_count')}, {shown} shown", job_id)
        ids = [f.event_id for f in events]
        history = [i for i in e.histories.get(job_id, []) if i in set(ids)]
        if history != ids:
            lacking = [f"{f.sequence} {f.name}" for f in events if f.event_id not in history]
            yield e.violation("history", f"{len(ids)} job events in order", f"{len(history)}; lacking {lacking[:5]}", job_id)


def services_are_ready(e: Evidence) -> Iterator[Violation]:
    """Every service is ready again, soon after the last fault."""
    for said in e.not_ready:
        yield e.violation(
            "health", "every service ready after the last fault", said, at=max((f.ended for f in e.faults), default=0.0)
        )


def requests_are_answered(e: Evidence) -> Iterator[Violation]:
    """Each request of the load is answered, at the latest soon after the last fault."""
    if e.unanswered:
        shown = ", ".join(sorted(e.unanswered)[:5])
        yield replace(
            e.violation("no answer", "an answer soon after the last fault", f"none for {shown}"), count=len(e.unanswered)
        )


def faults_were_applied(e: Evidence) -> Iterator[Violation]:
    """The harness did what the plan says: a fault that it could not apply proves nothing."""
    for fault in (f for f in e.faults if f.note.startswith(BROKEN)):
        yield e.violation("harness", f"{fault.kind} applied", fault.note, at=fault.began)


def verify_finds_nothing(e: Evidence) -> Iterator[Violation]:
    """`stageline verify` finds no difference."""
    for difference in e.verified or ():
        yield e.violation("verify", "0 differences", difference)


def answers_are_no_server_errors(e: Evidence) -> Iterator[Violation]:
    """An HTTP API answers 503 while it cannot work, and never another server error; a request of the load is not refused."""
    for answer in e.answers:
        yield e.violation("answer", "success, 429 or 503", f"{answer.request}: {answer.status} {answer.body[:200]}", at=answer.at)


def nothing_is_left(e: Evidence) -> Iterator[Violation]:
    """After all jobs are erased the object store has only what no job names; the gateway's collector deletes that after a day."""
    left = [name for name in e.objects_left or () if name.rpartition("/")[2] not in e.unnamed]
    if left:
        yield e.violation("erasure", "an empty object store", f"{len(left)} objects: {', '.join(left[:5])}")


WITHOUT_TOPICS = (services_are_ready, requests_are_answered, faults_were_applied, answers_are_no_server_errors)
"""What can be judged when Kafka cannot be read."""
