"""Planted bugs: each a switch that breaks one promise of the runtime, or a patch that breaks one of the deciders. All must be found."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any
from unittest.mock import patch

from contracts import StageReport
from services.ingest.core import job_end, numbering
from services.job_orchestrator.core import decide as decide_module
from services.job_orchestrator.core import decision_builder as draft_module
from services.job_orchestrator.core import ending, steps, verbs
from services.job_orchestrator.core.decision_builder import Draft
from services.job_orchestrator.core.job import IN_FLIGHT, JOB_LANE, Decision, Job, Lane, LaneState, evolve
from services.job_orchestrator.dispatch import budget
from services.session.core import decide as session_decide


@dataclass
class Switches:
    """Of the runtime."""

    offsets_first: bool = False
    publish_before_commit: bool = False
    no_inbox: bool = False
    unordered_outbox: bool = False
    loses_outbox: bool = False
    keeps_outbox: bool = False
    changed_bytes: bool = False
    keeps_parked_as_seen: bool = False
    drops_parked: bool = False
    repeats_are_waste: bool = False
    any_bug: bool = False


def _on(**names: bool) -> Callable[[], contextlib.AbstractContextManager[Switches]]:
    return lambda: contextlib.nullcontext(Switches(any_bug=True, **names))


def _patched(target: Any, name: str, make: Callable[[Any], Any]) -> Callable[[], contextlib.AbstractContextManager[Switches]]:
    @contextlib.contextmanager
    def patched() -> Iterator[Switches]:
        with patch.object(target, name, make(getattr(target, name))):
            yield Switches(any_bug=True)

    return patched


def _any_lease(real: Any) -> Any:
    def report(job: Job, message: StageReport, *more: Any) -> Decision:
        lane = job.lanes.get(message.file_id or JOB_LANE)
        if lane is not None and lane.lease:
            message = message.model_copy(update={"lease": lane.lease, "attempt": lane.attempt, "step": job.step_of(lane).name})
        found: Decision = real(job, message, *more)
        return found

    return report


def _after_the_end(real: Any) -> Any:
    def report(job: Job, message: StageReport, *more: Any) -> Decision:
        lane = job.lanes.get(message.file_id or JOB_LANE)
        if job.ended and lane is not None and lane.lease == message.lease:
            job = evolve(
                job,
                {
                    "stage": type(job.stage)("in_progress"),
                    "lanes": {**job.lanes, lane.id: evolve(lane, {"state": LaneState.RUNNING})},
                },
            )
        found: Decision = real(job, message, *more)
        return found

    return report


def _same_sequence(real: Any) -> Any:
    def event(self: Draft, *args: Any, **fields: Any) -> None:
        real(self, *args, **fields)
        if self.job.sequence == 5:
            self.change(sequence=4)

    return event


def _random_ids(real: Any) -> Any:
    return lambda *parts: str(uuid.uuid4()) if "stageline.job" in str(parts[1:2]) else real(*parts)


def _no_timer(real: Any) -> Any:
    def again(draft: Draft, lane: Lane, *more: Any) -> None:
        real(draft, lane, *more)
        now = draft.lanes[lane.id]
        if now.state is LaneState.BACKOFF:
            draft.put(now, due_at=None)

    return again


def _early_retry(real: Any) -> Any:
    return lambda policy, attempt, seed: 0.0


def _endless_attempts(real: Any) -> Any:
    return lambda policy, attempt, code: True


def _hasty_join(real: Any) -> Any:
    def join(draft: Draft, boundary: int) -> None:
        if draft.job.live > 1 and draft.job.arrived == draft.job.live - 1:
            draft.change(arrived=draft.job.live)
        real(draft, boundary)

    return join


def _forgotten_lanes(real: Any) -> Any:
    def withdraw(draft: Draft, reason: str) -> None:
        ready = {k: x for k, x in draft.lanes.items() if x.state is LaneState.READY or x.state in IN_FLIGHT}
        real(draft, reason)
        for lane in list(ready.values())[:1]:
            draft.lanes[lane.id] = lane

    return withdraw


def _two_ends(real: Any) -> Any:
    def finished(self: Draft) -> None:
        real(self)
        real(self)

    return finished


def _pause_is_ignored(real: Any) -> Any:
    def dispatch(self: Draft, *args: Any, **more: Any) -> Lane:
        held = self.job.paused_by
        self.change(paused_by=None)
        lane: Lane = real(self, *args, **more)
        self.change(paused_by=held)
        return lane

    return dispatch


def _limit_off_by_one(real: Any) -> Any:
    def capacity(control: Any, in_flight: int, now: float, window: int | None) -> Any:
        return real(control, in_flight - 1, now, window)

    return capacity


def _uncounted(real: Any) -> Any:
    def count(self: Any, gone: Any, come: Any) -> None:
        real(self, gone if come else (), come)

    return count


def _never_enters(real: Any) -> Any:
    def write(self: Any) -> None:
        for key in list(self.entering)[1:]:
            del self.entering[key]
        real(self)

    return write


def _closes_again(real: Any) -> Any:
    return lambda session, command, now: None if isinstance(command, session_decide.CloseSession) else real(session, command, now)


def _adds_after_close(real: Any) -> Any:
    return lambda session, command, now: None if isinstance(command, session_decide.AddFile) else real(session, command, now)


def _cancel_goes_on(real: Any) -> Any:
    def end(job: Job, command: Any, now: Any, *more: Any) -> Decision:
        decision: Decision = real(job, command, now, *more)
        tasks = Draft(job, command.message_id + "x", now)
        for lane in list(tasks.lanes.values()):
            if not lane.ended and lane.attempt and job.step_of(lane).action and not tasks.outputs:
                tasks.hand_out(evolve(lane, {"lease": lane.lease + "x"}))
        return Decision(decision.job, decision.outputs + tuple(tasks.outputs))

    return end


def _silent_failure(real: Any) -> Any:
    def ended(draft: Draft, stage: Any) -> None:
        draft.move(stage)

    return ended


def _always_news(real: Any) -> Any:
    return lambda record, number: False


def _complete_at_once(real: Any) -> Any:
    return lambda record: True


BUGS: dict[str, Callable[[], contextlib.AbstractContextManager[Switches]]] = {
    **{f.name: _on(**{f.name: True}) for f in fields(Switches) if f.name != "any_bug"},
    "any lease will do": _patched(decide_module, "_report", _any_lease),
    "a report counts after the end": _patched(decide_module, "_report", _after_the_end),
    "a sequence number twice": _patched(Draft, "job_event", _same_sequence),
    "event ids by chance": _patched(draft_module, "derived", _random_ids),
    "a back-off without a timer": _patched(decide_module, "again", _no_timer),
    "no back-off at all": _patched(steps, "backoff_s", _early_retry),
    "attempts without end": _patched(steps, "may_retry", _endless_attempts),
    "a join that does not wait for all": _patched(steps, "join", _hasty_join),
    "an end that forgets a lane": _patched(ending, "withdraw", _forgotten_lanes),
    "a job finishes twice": _patched(Draft, "finished", _two_ends),
    "pause is ignored": _patched(Draft, "dispatch", _pause_is_ignored),
    "a limit off by one": _patched(budget, "capacity", _limit_off_by_one),
    "credits are not given back": _patched(budget.Budget, "_count", _uncounted),
    "what waits is forgotten": _patched(budget.Budget, "write", _never_enters),
    "a session closes again": _patched(session_decide, "_not_open", _closes_again),
    "a file after the close": _patched(session_decide, "_not_open", _adds_after_close),
    "a task after the cancel": _patched(verbs, "_end", _cancel_goes_on),
    "an end before its files": _patched(job_end, "_complete", _complete_at_once),
    "a repeat is taken for news": _patched(numbering, "read_before", _always_news),
    "a failure that nobody is told": _patched(ending, "end_badly", _silent_failure),
}
