"""Recorded decisions: one history per workflow of the simulation, one paragraph per event, as `decide` answered it when it was recorded.

`python -m tests.unit.recorded` records them again. A changed line is a changed decision, which the review sees.
Each output is named by its type and the first digits of the SHA-256 of its bytes; the stored job by those of its rows.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from contracts import Message, PauseJob, PokeJob, ResumeJob, RetryJobNow, StageTask, TaskStatus, TerminateJob
from services.job_orchestrator.adapters.codec import branch_to_text, job_to_text
from services.job_orchestrator.core.decision_builder import unlimited
from services.job_orchestrator.core.job import BranchState, Decision, Job
from services.job_orchestrator.core.workflow import Workflow
from tests.simulation.flows import BODIES
from tests.unit.orchestration import Drive

FOLDER = Path(__file__).parent / "decisions"
EVENTS = 40
MOST_RUNS = 3
"""Number of reruns after which a walk ends."""
STATUSES = [TaskStatus.OK] * 6 + [
    TaskStatus.RUN,
    TaskStatus.KO,
    TaskStatus.ERR,
    TaskStatus.ERR,
    TaskStatus.SKIP,
    TaskStatus.QUEUED,
]
RESULTS: list[dict[str, Any]] = [
    {"x": 1}, {}, {"file": {"size": 7, "content_type": "text/plain"}, "tag": {"name": "invoice", "confidence": 0.5}},
    {"tag": None, "fields": {"b": 1, "a": "ü"}, "properties": {"n": 1}}, {"tag": {"name": "x", "confidence": "no number"}},
    {"outputs": [{"file_name": "o.pdf", "blob_name": "t1/o", "content_type": "application/pdf", "size": 1, "sha256": "0" * 64}]},
]  # fmt: skip
T = TypeVar("T")


class Walker:
    """Feeds a job random events, from a seed."""

    def __init__(self, flow: Workflow, seed: str) -> None:
        self.rng = random.Random(seed)
        self.drive = Drive(flow, files=1 + self._number(3), metadata={"k": "v"})
        self.runs = 0

    def lines(self, events: int) -> Iterator[str]:
        """One line per event, the start included."""
        yield line("start", self.drive.feed(self.drive.start))
        for _ in range(events):
            yield line(*self._event())
            if self.runs == MOST_RUNS:
                return

    def _number(self, below: int) -> int:
        # By `random()` alone: its numbers are the same in every version of Python.
        return int(self.rng.random() * below)

    def _one_of(self, options: list[T]) -> T:
        return options[self._number(len(options))]

    def _event(self) -> tuple[str, Decision]:
        drive, draw = self.drive, self.rng.random()
        assert drive.job is not None
        if drive.job.ended and draw < 0.5:
            return self._rerun()
        if draw < 0.08:
            drive.credits = self._one_of([unlimited, lambda action: 0])
        timed = sorted(b.id for b in drive.job.branches.values() if b.due_at is not None)
        ready = sorted(b.id for b in drive.job.branches.values() if b.state is BranchState.READY)
        if ready and draw < 0.3:
            chosen = self._one_of(ready)
            return f"grant {chosen or 'job'}", drive.grant(chosen)
        if timed and draw > 0.85:
            chosen = self._one_of(timed)
            return f"timer {chosen or 'job'}", drive.due(chosen)
        return self._verb() if draw > 0.75 or not drive.tasks else self._report()

    def _open(self) -> list[StageTask]:
        job = self.drive.job
        assert job is not None
        leases = {b.lease for b in job.branches.values()}
        return [t for t in self.drive.tasks if t.lease in leases and self.rng.random() < 0.95]

    def _report(self) -> tuple[str, Decision]:
        task, status = self._one_of(self._open() or self.drive.tasks), self._one_of(STATUSES)
        more: dict[str, Any] = (
            {"result": self._one_of(RESULTS)} if status is TaskStatus.OK else {"code": self._one_of(["c", "other"])}
        )
        decision = self.drive.report(task, status, worker="w", message="m", **more)
        return f"{status.value} {task.file_id or 'job'} {task.step}#{task.attempt}", decision

    def _verb(self) -> tuple[str, Decision]:
        kind: type[Message] | None = self._one_of([PauseJob, ResumeJob, ResumeJob, RetryJobNow, PokeJob, PokeJob, PokeJob, None])
        if kind is None and self.rng.random() < 0.5:
            kind = TerminateJob
        if kind is None:
            return "cancel", self.drive.cancel()
        fields: dict[str, Any] = (
            {"outcome": self._one_of(["OK", "OK", "KO"]), "data": {"x": 1}, "approval": True} if kind is PokeJob else {}
        )
        return kind.__name__, self.drive.verb(kind, **fields)

    def _rerun(self) -> tuple[str, Decision]:
        options: dict[str, Any] = {"only": self._one_of(["all", "failed", "changed"])}
        if self.rng.random() < 0.4:
            options["from_step"] = self._one_of([s.name for s in self.drive.flow.steps])
        # The new job is only printed, because later reports are about the old one.
        _, decision = self.drive.rerun(**options)
        self.runs += 1
        return f"rerun {options}", decision


def line(event: str, decision: Decision) -> str:
    """The decision in one line."""
    if decision.refused is not None:
        return f"{event}: refused, {decision.refused}"
    assert decision.job is not None
    outputs = (
        f"{type(o.message).__name__} {o.topic} {digest(o.message.to_json())}{' last' * o.command}" for o in decision.outputs
    )
    states = " ".join(f"{key or 'job'}:{b.state.value}@{b.step}" for key, b in decision.job.branches.items())
    rows = f"{event}: {decision.job.stage.value}, {states}, {digest(stored(decision.job))}"
    return "\n    ".join([rows, *outputs])


def stored(job: Job) -> bytes:
    """A job's rows."""
    return "\n".join([job_to_text(job), *(f"{key} {branch_to_text(b)}" for key, b in job.branches.items())]).encode()


def digest(value: bytes) -> str:
    """Its first digits."""
    return hashlib.sha256(value).hexdigest()[:10]


def history(name: str) -> str:
    """Three walks through a workflow of the simulation."""
    flow = Workflow.model_validate({"name": name, "version": 1, **BODIES[name]})
    walks = ("\n".join(Walker(flow, f"{name} {n}").lines(EVENTS)) for n in range(3))
    return "\n\n".join(walks) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for workflow_name in BODIES:
        (FOLDER / f"{workflow_name}.txt").write_text(history(workflow_name))
