"""Asks the orchestrator why a job waits, for every route that shows it.

One question per job is open at a time, however many ask. An answer is shown again for a second, or for ten times as long as it took: a
client that polls costs the orchestrator one question a second, and one that polls a job of many files costs it a tenth of its time.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from cachetools import TTLCache

from contracts import ExplainJob, Tenancy
from contracts.topics import command_topic
from services.ingest.core.waiting import Record, answered, known_here, silent
from services.ingest.ports import Decisions, Publisher
from shared import clock
from shared.errors import Outcome
from shared.web.concurrency import HeldRequests, TooMany

PATIENCE_S = 2.0
"""Seconds that a request waits which shows the reason beside other things."""
QUIET_S = 5.0
"""After a question without an answer, such requests do not wait for these seconds: they show what is known."""
SHOWN_S = 1.0
SHOWN_MOST_S = 30.0
PACE = 10
MOST = 10_000
"""Jobs whose last answer is remembered, for an hour."""


@dataclass(frozen=True, slots=True)
class _Kept:
    answer: Record
    sequence: int
    until: float


@dataclass
class Explanations:
    """What is known about jobs that wait, in this process. Times of `time.monotonic`."""

    publisher: Publisher
    decisions: Decisions
    pending: HeldRequests
    timeout_s: float
    patience_s: float = PATIENCE_S
    _kept: TTLCache[str, _Kept] = field(default_factory=lambda: TTLCache(MOST, 3600.0))
    _open: dict[str, asyncio.Task[Record | None]] = field(default_factory=dict)
    _asked: TTLCache[str, float] = field(default_factory=lambda: TTLCache(MOST, 3600.0))
    _quiet_until: float = 0.0

    async def explain(self, job: Record, owner: Tenancy, trace: str | None, patient: bool = False) -> Record:
        """The explanation of a job, by its record in the read model.

        `patient`: ask in any case, and wait as long as for a command's answer.
        """
        known = known_here(job)
        if known is not None:
            return known
        kept = self._kept.get(job["id"])
        if not patient and kept is not None and kept.sequence == job["sequence"] and time.monotonic() < kept.until:
            return answered(job, kept.answer)
        answer = await self._answer(job, owner, trace, patient)
        if answer is not None:
            return answered(job, answer)
        last = None if kept is None else answered(job, kept.answer)
        return silent(job, last, time.monotonic() - self._asked.get(job["id"], time.monotonic()), clock.unix())

    async def _answer(self, job: Record, owner: Tenancy, trace: str | None, patient: bool) -> Record | None:
        job_id = job["id"]
        question = self._open.get(job_id)
        if question is None:
            question = self._open[job_id] = asyncio.create_task(self._ask(job, owner, trace))
            self._asked.setdefault(job_id, time.monotonic())
            question.add_done_callback(lambda _: self._open.pop(job_id, None))
        patience = self.timeout_s if patient else 0.0 if time.monotonic() < self._quiet_until else self.patience_s
        await asyncio.wait({question}, timeout=patience)
        if question.done():
            return question.result()
        self._quiet_until = time.monotonic() + QUIET_S
        return None

    async def _ask(self, job: Record, owner: Tenancy, trace: str | None) -> Record | None:
        """The orchestrator's answer; None when there is none in time, or the question cannot be asked."""
        command = ExplainJob(command_id=clock.new_root(), job_id=job["id"], owner=owner, issued_at=clock.now())
        topic, began = command_topic(command).name, time.monotonic()
        wait = self.decisions.wait(topic, repeated=True)
        wait.on_command(command.message_id)
        try:
            with self.pending.hold(owner.tenant_id), wait:
                await self.publisher.publish_command(topic, command, trace)
                answer: Record | None = await wait.result(self.timeout_s)
        except (Outcome, TooMany):
            return None
        if answer is not None:
            now = time.monotonic()
            shown = min(max(SHOWN_S, PACE * (now - began)), SHOWN_MOST_S)
            self._kept[job["id"]] = _Kept(answer, job["sequence"], now + shown)
            self._asked.pop(job["id"], None)
            self._quiet_until = 0.0
        return answer
