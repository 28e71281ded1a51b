"""Judges of delivery: the event stream without gap or repeat, and webhooks at least once under one id."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from tests.chaos.harness.evidence import Attempt, Evidence, Violation

OVERLAP_S = 0.5
"""A sender that gives up and the receiver see the end of a request at slightly different times."""


def stream_is_whole(e: Evidence) -> Iterator[Violation]:
    """The resumed stream shows every event of jobs and files, no position twice, and an id no more often than the topic has it."""
    if e.shown is None:
        return
    facts = [f for f in e.facts if f.topic in ("job.events", "file.events")]
    written = Counter(f.event_id for f in facts)
    shown = Counter(s.event_id for s in e.shown)
    for fact in {f.event_id: f for f in facts if f.event_id not in shown and f.job_id not in e.erased}.values():
        yield e.violation("stream", f"{fact.name} {fact.event_id} on the stream", "a gap", fact.job_id, fact.at)
    job_of = {f.event_id: f.job_id for f in facts}
    for cursor, times in Counter(s.cursor for s in e.shown).items():
        if times > 1:
            again = next(s for s in e.shown if s.cursor == cursor)
            yield e.violation("stream", "each cursor once", f"{times} times {cursor}", job_of.get(again.event_id), again.at)
    for event_id, times in shown.items():
        at = next(s.at for s in reversed(e.shown) if s.event_id == event_id) if times > written[event_id] else e.read_at
        if at < e.read_at:
            yield e.violation("stream", f"{event_id} {written[event_id]} times, as on the topic", times, job_of.get(event_id), at)


def stream_keeps_the_order(e: Evidence) -> Iterator[Violation]:
    """The stream shows the events of a job in the order of their numbers."""
    numbers = {f.event_id: f for f in e.facts if f.topic == "job.events"}
    last: dict[str, int] = {}
    seen: set[str] = set()
    for shown in e.shown or ():
        fact = numbers.get(shown.event_id)
        if fact is None or shown.event_id in seen:
            continue
        seen.add(shown.event_id)
        if fact.sequence < last.get(fact.job_id, 0):
            yield e.violation(
                "stream order", f"number {fact.sequence} first", f"after {last[fact.job_id]}", fact.job_id, shown.at
            )
        last[fact.job_id] = max(fact.sequence, last.get(fact.job_id, 0))


def webhooks_deliver_each_event(e: Evidence) -> Iterator[Violation]:
    """Each endpoint has accepted every job event at least once, and got no event that is not on the topic."""
    if e.attempts is None:
        return
    facts = {f.event_id: f for f in e.facts if f.topic == "job.events"}
    public = facts.keys() | {f.event_id for f in e.facts if f.topic == "job.erasures"}
    for endpoint in e.endpoints:
        mine = [a for a in e.attempts if a.endpoint == endpoint]
        accepted = {a.event_id for a in mine if a.status is not None and 200 <= a.status < 300}
        tries = Counter(a.event_id for a in mine)
        for event_id, fact in facts.items():
            if event_id not in accepted and fact.job_id not in e.erased:
                seen = f"{tries[event_id]} attempts, none accepted"
                yield e.violation("webhook", f"{fact.name} {event_id} delivered to {endpoint}", seen, fact.job_id, fact.at)
        for a in {a.event_id: a for a in mine if a.event_id not in public and a.began < e.read_at}.values():
            yield e.violation("webhook", "events of the topic alone", f"{endpoint} got {a.event_id}", a.job_id, a.began)


def webhooks_keep_one_id(e: Evidence) -> Iterator[Violation]:
    """Each attempt carries the event's own id and the same bytes, and its number does not go back."""
    first: dict[tuple[str, str], Attempt] = {}
    last: dict[tuple[str, str], Attempt] = {}
    for a in sorted(e.attempts or (), key=lambda a: a.began):
        key = (a.endpoint, a.event_id)
        if a.event_id != a.body_id:
            yield e.violation("webhook id", f"webhook-id {a.body_id}, the event's", a.event_id, a.job_id, a.began)
        if first.setdefault(key, a).digest != a.digest:
            yield e.violation(
                "webhook id", f"the same bytes of {a.event_id}", f"other ones in attempt {a.number}", a.job_id, a.began
            )
        if last.get(key, a).number > a.number:
            seen = f"{a.number} after {last[key].number}"
            yield e.violation("webhook id", f"attempts of {a.event_id} that count up", seen, a.job_id, a.began)
        last[key] = a


def one_webhook_in_flight_per_job(e: Evidence) -> Iterator[Violation]:
    """For one endpoint and job at most one request is in flight. A frozen sender's lease passes to another, so its time is left out."""
    frozen = [f for f in e.faults if f.kind in ("stop", "kill", "terminate") and f.target.startswith("notifier")]
    per_job: dict[tuple[str, str], list[Attempt]] = defaultdict(list)
    for a in sorted(e.attempts or (), key=lambda a: a.began):
        per_job[a.endpoint, a.job_id].append(a)
    for (endpoint, job_id), found in per_job.items():
        until = found[0]
        for a in found[1:]:
            if a.began < until.ended - OVERLAP_S and not any(
                f.began - 1 < until.ended and a.began < f.ended + 20 for f in frozen
            ):
                seen = f"{a.event_id} {until.ended - a.began:.1f} s before the answer to {until.event_id}"
                yield e.violation("webhook in flight", f"one request at a time to {endpoint}", seen, job_id, a.began)
            until = max(until, a, key=lambda x: x.ended)


def retry_after_is_obeyed(e: Evidence) -> Iterator[Violation]:
    """After an answer with `Retry-After` the next attempt comes no sooner. An attempt that a kill repeats keeps its number."""
    last: dict[tuple[str, str], Attempt] = {}
    for a in sorted(e.attempts or (), key=lambda a: a.began):
        before = last.get((a.endpoint, a.event_id))
        last[a.endpoint, a.event_id] = a
        if before is not None and before.retry_after is not None and a.number > before.number:
            waited = a.began - before.ended
            if waited < before.retry_after - OVERLAP_S:
                yield e.violation(
                    "Retry-After", f"{before.retry_after:.0f} s before attempt {a.number}", f"{waited:.1f} s", a.job_id, a.began
                )
