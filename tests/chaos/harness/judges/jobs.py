"""Judges of jobs on the topics: accepted jobs are there, end once and truthfully, and their events are whole."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from tests.chaos.harness.evidence import Accepted, Evidence, Fact, Violation, end_of, file_end_of, first_of_each


def accepted_jobs_are_there(e: Evidence) -> Iterator[Violation]:
    """Every accepted request has its job, and every job was asked for."""
    jobs = {job_id: events[0] for job_id, events in e.job_events()}
    of_session = {str((f.inner or {}).get("deferred_session_id")): job_id for job_id, f in jobs.items()}
    known = set(e.unanswered)
    for a in e.accepted:
        job_id = a.job_id or of_session.get(str(a.session_id))
        if job_id not in jobs and not a.erased:
            yield e.violation("accepted", f"a job of request {a.number} ({a.way})", "no event of it", job_id, a.at)
        known |= {i for i in (job_id, a.session_id) if i}
    for job_id, first in jobs.items():
        inner = first.inner or {}
        causes = {job_id, *(inner.get(n) for n in ("deferred_session_id", "parent_job_id", "rerun_of"))}
        if not causes & known:
            yield e.violation("accepted", "only jobs that were asked for", f"a job that nobody asked for: {first.name}", job_id)


def jobs_end_once_and_truthfully(e: Evidence) -> Iterator[Violation]:
    """Exactly one terminal event, the last one, with an outcome that the request and its operators explain."""
    of_session = {a.session_id: a for a in e.accepted if a.job_id is None}
    asked = {a.job_id: a for a in e.accepted if a.job_id}
    for job_id, events in e.job_events():
        ends = [(f, end) for f in events if (end := end_of(f))]
        if len(ends) != 1:
            seen = (
                f"{len(ends)} ends"
                if ends
                else f"none; the last event is {events[-1].name} {(events[-1].inner or {}).get('stage', '')}"
            )
            yield e.violation("one end", "one terminal event", seen, job_id)
            continue
        [(fact, end)] = ends
        if events[-1].event_id != fact.event_id:
            yield e.violation("one end", "no event after the end", f"{events[-1].name} after {fact.name}", job_id)
        request = asked.get(job_id) or of_session.get((events[0].inner or {}).get("deferred_session_id"))
        if request is not None and end not in request.ends:
            inner = fact.inner or {}
            said = f"{end}: {inner.get('error_messages')} after {inner.get('retries', 0)} retries"
            yield e.violation("truthful end", " or ".join(sorted(request.ends)), said, job_id, fact.at)


def sequences_are_dense(e: Evidence) -> Iterator[Violation]:
    """Without repeats, a job's events are numbered 1, 2, 3 … in the order of the topic, and a repeat has the same bytes."""
    for job_id, events in e.job_events():
        numbers = [f.sequence for f in events]
        if numbers != list(range(1, len(numbers) + 1)):
            yield e.violation("dense sequence", f"1 to {len(numbers)} in order", numbers, job_id)
    digests: dict[tuple[str, str], Fact] = {}
    for fact in (f for f in e.facts if f.topic in ("job.events", "file.events")):
        before = digests.setdefault((fact.topic, fact.event_id), fact)
        if before.digest != fact.digest:
            yield e.violation("same repeat", f"the bytes of {fact.event_id} again", "other bytes", fact.job_id, fact.at)


def files_agree(e: Evidence) -> Iterator[Violation]:
    """Each file is added once and ends once, and the job's end counts them rightly."""
    by_job = {a.job_id: a for a in e.accepted if a.job_id}
    by_session = {a.session_id: a for a in e.accepted if a.job_id is None}
    for job_id, events in e.job_events():
        asked = by_job.get(job_id) or by_session.get((events[0].inner or {}).get("deferred_session_id"))
        end = next((f for f in events if end_of(f)), None)
        if end is None:
            continue
        ends: dict[str, list[str]] = defaultdict(list)
        added: Counter[str] = Counter()
        for fact in first_of_each(f for f in e.of_job(job_id) if f.topic == "file.events"):
            file_id = str((fact.inner or {}).get("file_id") or (fact.inner or {}).get("file_log_id"))
            added[file_id] += fact.name == "file_add_to_job_event"
            if status := file_end_of(fact):
                ends[file_id].append(status)
        yield from _one_job(e, job_id, end, ends, added, asked)


def _one_job(
    e: Evidence, job_id: str, end: Fact, ends: dict[str, list[str]], added: Counter[str], asked: Accepted | None
) -> Iterator[Violation]:
    count = sum(added.values())
    if asked is not None and asked.files is not None and count != asked.files:
        yield e.violation("files", f"{asked.files} files", f"{count} added on file.events", job_id)
    for file_id, times in added.items():
        if times != 1 or len(ends[file_id]) > 1 or (not ends[file_id] and asked is not None and asked.files_end):
            yield e.violation(
                "files", f"file {file_id} added once and ended once", f"added {times}, ends {ends[file_id]}", job_id
            )
    said = (end.inner or {}).get("file_ends")
    total = sum(len(found) for found in ends.values())
    if said is not None and said != total:
        yield e.violation("file_ends", f"{said} ends of files, as the job's end says", f"{total} on file.events", job_id)
    tally = Counter(status for found in ends.values() for status in found)
    finished = (end.inner or {}).get("finished_files")
    if finished is not None and finished != tally["finished"]:
        yield e.violation(
            "files", f"{finished} finished files, as the job's end says", f"{tally['finished']} on file.events", job_id
        )


def job_state_agrees(e: Evidence) -> Iterator[Violation]:
    """The last record of `job.state` is the job after its last event, and a tombstone for an erased job."""
    last = {f.job_id: f for f in e.facts if f.topic == "job.state"}
    for job_id, events in e.job_events():
        state = last.get(job_id)
        if job_id in e.erased:
            if state is not None and state.inner is not None:
                yield e.violation("job.state", "a tombstone of the erased job", f"number {state.sequence}", job_id, state.at)
            continue
        expected = (events[-1].sequence, next((end for f in reversed(events) if (end := end_of(f))), None))
        if expected[1] is None:
            continue  # another judge reports a job that does not end
        seen = (state.sequence, (state.inner or {}).get("stage")) if state is not None else None
        if seen != expected:
            yield e.violation("job.state", f"number and stage {expected}", seen, job_id)
