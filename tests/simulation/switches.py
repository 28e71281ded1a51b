"""Planted bugs. Each is a switch that breaks the runtime, or a patch that breaks a decider; the simulation must find all of them."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any
from unittest.mock import patch

from contracts import StageReport
from services.ingest.core import job_end, numbering
from services.job_orchestrator.core import advance as advance_module
from services.job_orchestrator.core import attempts, verbs
from services.job_orchestrator.core import decide as decide_module
from services.job_orchestrator.core import decision_builder as builder_module
from services.job_orchestrator.core.decision_builder import DecisionBuilder
from services.job_orchestrator.core.job import IN_FLIGHT, JOB_BRANCH, Branch, BranchState, Decision, Job, evolve
from services.job_orchestrator.dispatch import budget
from services.session.core import decide as session_decide


@dataclass
class Switches:
    """Bugs of the runtime."""

    offsets_first: bool = False
    publish_before_commit: bool = False
    no_inbox: bool = False
    unordered_outbox: bool = False
    loses_outbox: bool = False
    keeps_outbox: bool = False
    changed_bytes: bool = False
    keeps_parked_as_seen: bool = False
    drops_parked: bool = False
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
        branch = job.branches.get(message.file_id or JOB_BRANCH)
        if branch is not None and branch.lease:
            message = message.model_copy(
                update={"lease": branch.lease, "attempt": branch.attempt, "step": job.step_of(branch).name}
            )
        found: Decision = real(job, message, *more)
        return found

    return report


def _after_the_end(real: Any) -> Any:
    def report(job: Job, message: StageReport, *more: Any) -> Decision:
        branch = job.branches.get(message.file_id or JOB_BRANCH)
        if job.ended and branch is not None and branch.lease == message.lease:
            job = evolve(
                job,
                {
                    "stage": type(job.stage)("in_progress"),
                    "branches": {**job.branches, branch.id: evolve(branch, {"state": BranchState.RUNNING})},
                },
            )
        found: Decision = real(job, message, *more)
        return found

    return report


def _same_sequence(real: Any) -> Any:
    def event(self: DecisionBuilder, *args: Any, **fields: Any) -> None:
        real(self, *args, **fields)
        if self.job.sequence == 5:
            self.change_job(sequence=4)

    return event


def _random_ids(real: Any) -> Any:
    return lambda *parts: str(uuid.uuid4()) if "stageline.job" in str(parts[1:2]) else real(*parts)


def _no_timer(real: Any) -> Any:
    def retry(builder: DecisionBuilder, branch: Branch, *more: Any) -> Any:
        moves = real(builder, branch, *more)
        now = builder.branches[branch.id]
        if now.state is BranchState.BACKOFF:
            builder.change_branch(now, due_at=None)
        return moves

    return retry


def _early_retry(real: Any) -> Any:
    return lambda policy, attempt, seed: 0.0


def _endless_attempts(real: Any) -> Any:
    return lambda policy, attempt, code: True


def _hasty_join(real: Any) -> Any:
    def join(builder: DecisionBuilder, boundary: int) -> Any:
        if builder.job.live > 1 and builder.job.arrived == builder.job.live - 1:
            builder.change_job(arrived=builder.job.live)
        return real(builder, boundary)

    return join


def _forgotten_branches(real: Any) -> Any:
    def withdraw(builder: DecisionBuilder, reason: str) -> None:
        ready = {k: x for k, x in builder.branches.items() if x.state is BranchState.READY or x.state in IN_FLIGHT}
        real(builder, reason)
        for branch in list(ready.values())[:1]:
            builder.branches[branch.id] = branch

    return withdraw


def _two_ends(real: Any) -> Any:
    def finished(self: DecisionBuilder) -> None:
        real(self)
        real(self)

    return finished


def _pause_is_ignored(real: Any) -> Any:
    def start(builder: DecisionBuilder, *args: Any, **more: Any) -> Branch:
        held = builder.job.paused_by
        builder.change_job(paused_by=None)
        branch: Branch = real(builder, *args, **more)
        builder.change_job(paused_by=held)
        return branch

    return start


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
        tasks = DecisionBuilder(job, command.message_id + "x", now)
        for branch in list(tasks.branches.values()):
            if not branch.ended and branch.attempt and job.step_of(branch).action and not tasks.outputs:
                attempts.hand_out(tasks, evolve(branch, {"lease": branch.lease + "x"}), job.step_of(branch))
        return Decision(decision.job, decision.outputs + tuple(tasks.outputs))

    return end


def _silent_failure(real: Any) -> Any:
    def ended(builder: DecisionBuilder, stage: Any) -> None:
        builder.stage_reached(stage)

    return ended


def _always_news(real: Any) -> Any:
    return lambda record, number: False


def _complete_at_once(real: Any) -> Any:
    return lambda record: True


BUGS: dict[str, Callable[[], contextlib.AbstractContextManager[Switches]]] = {
    **{f.name: _on(**{f.name: True}) for f in fields(Switches) if f.name != "any_bug"},
    "any lease will do": _patched(decide_module, "_report", _any_lease),
    "a report counts after the end": _patched(decide_module, "_report", _after_the_end),
    "a sequence number twice": _patched(DecisionBuilder, "job_event", _same_sequence),
    "event ids by chance": _patched(builder_module, "derived", _random_ids),
    "a back-off without a timer": _patched(advance_module, "_retry", _no_timer),
    "no back-off at all": _patched(advance_module, "backoff_s", _early_retry),
    "attempts without end": _patched(advance_module, "may_retry", _endless_attempts),
    "a join that does not wait for all": _patched(advance_module, "_join", _hasty_join),
    "an end that forgets a branch": _patched(advance_module, "withdraw", _forgotten_branches),
    "a job finishes twice": _patched(DecisionBuilder, "job_finished", _two_ends),
    "pause is ignored": _patched(attempts, "start_attempt", _pause_is_ignored),
    "a limit off by one": _patched(budget, "capacity", _limit_off_by_one),
    "credits are not given back": _patched(budget.Budget, "_count", _uncounted),
    "what waits is forgotten": _patched(budget.Budget, "write", _never_enters),
    "a session closes again": _patched(session_decide, "_not_open", _closes_again),
    "a file after the close": _patched(session_decide, "_not_open", _adds_after_close),
    "a task after the cancel": _patched(verbs, "_end", _cancel_goes_on),
    "an end before its files": _patched(job_end, "_complete", _complete_at_once),
    "a repeat is taken for news": _patched(numbering, "read_before", _always_news),
    "a failure that nobody is told": _patched(advance_module, "end_badly", _silent_failure),
}
