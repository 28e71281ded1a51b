"""What a run has seen from outside. Judges read it; nothing in it comes from a service's table or module."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

TERMINAL = frozenset({"completed", "failed", "invalid", "cancelled"})
FILE_ENDS = frozenset({"finished", "failed", "invalid", "cancelled"})

BROKEN = "could not be applied"
"""Note of a fault that the harness itself failed to apply or to end."""


@dataclass(frozen=True, slots=True)
class Applied:
    """A fault that was applied, with its window in Unix seconds."""

    kind: str
    target: str
    began: float
    ended: float
    note: str = ""

    def __str__(self) -> str:
        lasted = f" for {self.ended - self.began:.0f} s" if self.ended - self.began >= 1 else ""
        return f"{self.kind} {self.target}{lasted}" + (f" ({self.note})" if self.note else "")


@dataclass(slots=True)
class Accepted:
    """A request that was answered, or a command that Kafka acknowledged. `job_id` is None for a session closed over Kafka."""

    number: int
    way: str
    at: float
    ends: frozenset[str]
    """Stages in which the job may truthfully end."""
    job_id: str | None = None
    session_id: str | None = None
    files: int | None = None
    """Number of its files; None: not known."""
    files_end: bool = False
    """Its workflow has steps for files, so each of them ends."""
    erased: bool = False


@dataclass(frozen=True, slots=True)
class Fact:
    """A decodable record of a topic. `inner` is the event object of a job or file event, else the whole body; None: a tombstone."""

    topic: str
    name: str
    event_id: str
    job_id: str
    at: float
    inner: dict[str, Any] | None
    digest: int = 0

    @property
    def sequence(self) -> int:
        """Number among the job's events; 0 when it has none."""
        return int((self.inner or {}).get("sequence") or 0)


@dataclass(frozen=True, slots=True)
class Shown:
    """An event of the stream: its cursor, id, and the time at which it came."""

    cursor: str
    event_id: str
    at: float


@dataclass(slots=True)
class Attempt:
    """A request to a webhook receiver. `status` is None until it is answered, and stays so when the sender goes away."""

    endpoint: str
    event_id: str
    body_id: str
    job_id: str
    number: int
    digest: int
    began: float
    ended: float = 0.0
    status: int | None = None
    retry_after: float | None = None
    """Seconds that the answer asked for."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of a service's log that is no information."""

    process: str
    at: float
    level: str
    logger: str
    message: str
    exception: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Memory in MiB and idle CPU in percent of a core, before and after the load."""

    process: str
    mib_before: float
    mib_after: float
    cpu_before: float
    cpu_after: float


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer that no client should get."""

    request: str
    status: int
    at: float
    body: str = ""


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise: what was expected, what was seen, and the fault that was nearest in time."""

    rule: str
    job_id: str | None
    expected: str
    seen: str
    nearest: str = ""
    count: int = 1

    def __str__(self) -> str:
        job = f" job {self.job_id}" if self.job_id else ""
        times = f" ({self.count} times)" if self.count > 1 else ""
        return f"{self.rule}:{job}{times} expected {self.expected}; seen {self.seen}; nearest fault: {self.nearest or 'none'}"


@dataclass
class Evidence:
    """All that judges know. A part that a run has not collected is None, and its judges say nothing of it."""

    faults: list[Applied] = field(default_factory=list)
    accepted: list[Accepted] = field(default_factory=list)
    unanswered: set[str] = field(default_factory=set)
    """Ids of jobs and sessions whose request was never answered: their jobs may be there or not."""
    facts: list[Fact] = field(default_factory=list)
    """Of `job.events`, `file.events`, `session.events`, `job.state` and `job.erasures`, in the order of each partition."""
    shown: list[Shown] | None = None
    attempts: list[Attempt] | None = None
    endpoints: tuple[str, ...] = ()
    records: dict[str, dict[str, Any] | None] | None = None
    """Job id → `GET /v1/jobs/{id}`; None: 404."""
    histories: dict[str, list[str]] = field(default_factory=dict)
    """Job id → ids of `GET /v1/jobs/{id}/history`."""
    answers: list[Answer] = field(default_factory=list)
    log_lines: list[LogLine] = field(default_factory=list)
    usage: list[Usage] = field(default_factory=list)
    verified: list[str] | None = None
    """Differences that `stageline verify` prints."""
    objects_left: list[str] | None = None
    """Objects after all jobs were erased."""
    unnamed: set[str] = field(default_factory=set)
    """Hashes of content that no job may name: uploads without an answer, and results that were refused. A collector deletes it."""
    not_ready: list[str] = field(default_factory=list)
    """Services that are not ready, long after the last fault, with what they say."""
    read_at: float = float("inf")
    """When the reading of the topics began. What was shown or delivered later may not be among the facts."""

    def violation(
        self, rule: str, expected: object, seen: object, job_id: str | None = None, at: float | None = None
    ) -> Violation:
        """A violation, with the fault nearest to `at`, or to the job's last event."""
        last = max((f.at for f in self.of_job(job_id)), default=None) if job_id else None
        when = at if at is not None else last
        return Violation(rule, job_id, str(expected), str(seen), self.nearest(when) if when else "")

    def nearest(self, at: float) -> str:
        """The fault whose window is nearest to a time, in words."""

        def distance(fault: Applied) -> float:
            return max(fault.began - at, at - fault.ended, 0.0)

        found = min(self.faults, key=distance, default=None)
        if found is None:
            return ""
        away = distance(found)
        return str(found) + (" (under way)" if away == 0 else f", {away:.1f} s {'later' if found.began > at else 'earlier'}")

    def of_job(self, job_id: str | None) -> list[Fact]:
        """All facts of a job."""
        return self._by_job.get(job_id or "", [])

    def job_events(self) -> Iterator[tuple[str, list[Fact]]]:
        """Job id → its job events without repeats, in the order of the topic."""
        for job_id, facts in self._by_job.items():
            found = first_of_each(f for f in facts if f.topic == "job.events")
            if found:
                yield job_id, found

    @cached_property
    def _by_job(self) -> dict[str, list[Fact]]:
        found: dict[str, list[Fact]] = {}
        for fact in self.facts:
            found.setdefault(fact.job_id, []).append(fact)
        return found

    @cached_property
    def erased(self) -> frozenset[str]:
        """Jobs that are erased, or whose erasure was asked for."""
        asked = {a.job_id for a in self.accepted if a.erased and a.job_id}
        return frozenset(asked | {f.job_id for f in self.facts if f.topic == "job.erasures"})


def first_of_each(facts: Iterator[Fact]) -> list[Fact]:
    """The facts without repeats of an id."""
    found: dict[str, Fact] = {}
    for fact in facts:
        found.setdefault(fact.event_id, fact)
    return list(found.values())


def end_of(fact: Fact) -> str | None:
    """The stage in which a job event ends its job; None for one that ends nothing."""
    stage = (fact.inner or {}).get("stage")
    ends = {"job_finished_event": "completed", "job_failed_event": stage or "failed", "job_invalid_event": "invalid"}
    return ends.get(fact.name)


def file_end_of(fact: Fact) -> str | None:
    """The status in which a file event ends its file; None for one that ends nothing."""
    status = str((fact.inner or {}).get("file_status"))
    if fact.name == "file_status_update_event":
        return status if status in FILE_ENDS else None
    return {"file_done_event": "finished", "file_failed_event": status if status in FILE_ENDS else "failed"}.get(fact.name)
