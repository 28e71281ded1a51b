"""Checks while the pipeline runs: S3 to S17 of the reliability notes, as far as deciders and runtime can break them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from contracts import Message, StageTask, TaskCancelled, derived
from contracts.alfred import AlfredEvent
from services.job_orchestrator.core.job import IN_FLIGHT, Branch, BranchState, Job
from services.job_orchestrator.dispatch.budget import flight_keys
from shared.kafka.outgoing import Outgoing
from tests.simulation.broker import Place
from tests.simulation.stores import Database, Transaction

ENDS = ("job_finished_event", "job_failed_event", "job_invalid_event")


class Broken(AssertionError):
    """An invariant does not hold."""


def must(holds: bool, invariant: str, what: str) -> None:
    """Raises `Broken`."""
    if not holds:
        raise Broken(f"{invariant}: {what}")


class Observer:
    """Sees every commit and every record."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.committed: dict[tuple[str, bytes, bytes], int] = {}
        """Rows of committed transactions (topic, key, value), with the number of the commit."""
        self.first: dict[tuple[str, str], bytes] = {}
        self.sequences: dict[str, list[int]] = defaultdict(list)
        self.ended: set[str] = set()
        self.settles: Counter[tuple[str, Place, int, str]] = Counter()
        self.commits = 0
        self.revoked: set[str] = set()
        self.verdicts: dict[str, bool] = {}
        self.tasks: dict[str, tuple[str, int]] = {}
        self.end_commit: dict[str, int] = {}

    def settled(self, node: Any, place: Place, offset: int, how: str) -> None:
        """A record was applied, recognised as a duplicate, or dead-lettered (S15)."""
        self.settles[node.group, place, offset, how] += 1

    def judged(self, report_id: str, refused: bool) -> None:
        """A report that ends an attempt was decided. Work that had its effect is never published as refused, also not for a duplicate (S10)."""
        wasted = self.verdicts.setdefault(report_id, refused)
        must(wasted or not refused, "S10", f"the work of {report_id} had its effect, and is told as wasted")

    def before_commit(self, node: Any, tx: Transaction, rows: Sequence[Outgoing]) -> None:
        """A transaction is about to become visible."""
        self.commits += 1
        for row in rows:
            self.committed.setdefault((row.topic, row.key or b"", row.value), self.commits)
        if node.group == "job_orchestrator":
            self._jobs(tx)
            self._moves(tx, node.database)

    def after_commit(self, node: Any) -> None:
        """The transaction is visible."""

    def _jobs(self, tx: Transaction) -> None:
        jobs: dict[str, tuple[Job, Any]] = tx.table("job")
        branches: dict[str, dict[str, Branch]] = defaultdict(dict)
        for (job_id, key), branch in tx.table("lane").items():
            branches[job_id][key] = branch
        flight: Counter[Any] = Counter()
        ready = tx.table("ready")
        for job_id, (job, _) in jobs.items():
            self._job(job, branches[job_id], ready)
            for branch in branches[job_id].values():
                flight.update(flight_keys(job, branch))
        counted = {k: n for k, n in tx.table("flight").items() if n}
        must(dict(flight) == counted, "credits", f"in flight are {dict(flight)}, counted are {counted}")
        for key, control in tx.table("control").items():
            version = replace(control, tokens=None, tokens_at=None)
            if control.limit is not None and self.world.limits.get(key) == version:
                must(
                    flight[key] <= max(control.limit, self.world.limit_base.get(key, 0)),
                    "credits",
                    f"{key} has {flight[key]} of {control.limit}",
                )
            else:
                # A new limit does not take back what was handed out before.
                self.world.limits[key] = version
                self.world.limit_base[key] = flight[key]
        for place in ready:
            must(
                branches[place[0]][place[1]].state is BranchState.READY, "credits", f"{place} waits for a credit and is not ready"
            )

    def _moves(self, tx: Transaction, before: Database) -> None:
        old_jobs, old_branches = before.tables.get("job", {}), before.tables.get("lane", {})
        for place, branch in tx.table("lane").items():
            old = old_branches.get(place)
            if old is branch:
                continue
            job: Job = tx.table("job")[place[0]][0]
            step = job.step_of(branch)
            if (
                branch.state is BranchState.BACKOFF
                and not branch.waiting
                and (old is None or old.state is not BranchState.BACKOFF)
            ):
                least = self.world.now + step.retry.initial_s * (1 - step.retry.jitter) - 1e-6
                bound = (branch.entered_at or float("inf")) + (step.timeouts.total_s or float("inf"))
                must(branch.due_at is None or branch.due_at >= min(least, bound), "S11", f"{place}: a retry before its time")
            held = place[0] in old_jobs and old_jobs[place[0]][0].paused_by and job.paused_by
            if held and branch.state is BranchState.QUEUED:
                must(
                    old is not None and old.lease == branch.lease and old.state in IN_FLIGHT,
                    "pause",
                    f"{place} was handed out while paused",
                )

    def _job(self, job: Job, branches: dict[str, Branch], ready: Any) -> None:
        files = [branch for key, branch in branches.items() if key]
        for name in ("done", "failed", "invalid", "cancelled"):
            n = sum(branch.state.value == name for branch in files)
            must(getattr(job, name) == n, "S4", f"{job.id}: {name} is {getattr(job, name)}, branches say {n}")
        for branch in branches.values():
            policy = job.step_of(branch).retry
            must(
                branch.attempt <= policy.max_attempts,
                "S11",
                f"{job.id}/{branch.id}: attempt {branch.attempt} of {policy.max_attempts}",
            )
            if branch.state is BranchState.BACKOFF and branch.due_at is not None and not branch.waiting and policy.initial_s:
                must(branch.attempt < policy.max_attempts, "S11", "a retry beyond the policy")
            if job.ended:
                must(
                    branch.ended
                    or branch.state in (BranchState.ARRIVED, BranchState.IDLE)
                    or (not branch.id and not branch.attempt),
                    "S14",
                    f"{job.id} has ended, {branch.id} is {branch.state}",
                )
        if not job.ended:
            # L3: something will move it: a timer, a worker, a credit, an answer, a child job, or the end of a pause.
            moved = any(
                x.due_at is not None or x.state is BranchState.WAITING or (job.id, x.id) in ready or (x.state is BranchState.READY and job.paused_by)
                or (x.state in IN_FLIGHT and job.step_of(x).job is not None)
                for x in branches.values()
            )  # fmt: skip
            must(bool(moved), "L3", f"{job.id} is {job.stage.value} and nothing moves it")

    def published(self, node: Any, row: Outgoing, message: Message | None) -> None:
        """A record is in Kafka."""
        key = (row.topic, row.key or b"", row.value)
        must(key in self.committed, "S7", f"{row.topic}: published, but in no committed transaction, or changed since (S8)")
        if message is None:
            return
        name = (row.topic, message.message_id)
        again = name in self.first
        must(self.first.setdefault(name, row.value) == row.value, "S8", f"{name}: sent again with other bytes")
        if isinstance(message, AlfredEvent) and row.topic == "job.events":
            self._event(message, self.committed[key])
        if isinstance(message, TaskCancelled):
            self.revoked.add(message.lease)
        if isinstance(message, StageTask) and not again:
            self.tasks[message.lease] = (message.job_id, self.committed[key])
            # A task of the same transaction may come after the end: it is cancelled in that transaction.
            end = self.end_commit.get(message.job_id, self.committed[key])
            must(self.committed[key] <= end, "S14", f"a task of {message.job_id} after its end")

    def _event(self, event: AlfredEvent[Any], commit: int) -> None:
        job_id, sequence = event.event.job_id, event.event.sequence or 0
        known = self.sequences[job_id]
        if sequence in known:
            return
        expected = derived(event.event.caused_by or "", event.TYPE, sequence)
        must(event.event_id == expected, "ids", f"{job_id}: the id of event {sequence} does not come from its cause")
        must(sequence == len(known) + 1, "S5", f"{job_id}: event {sequence} after {known[-1:]}")
        must(job_id not in self.ended, "S3", f"{job_id}: {event.event.NAME} after its end")
        known.append(sequence)
        if event.event.NAME in ENDS:
            self.ended.add(job_id)
            self.end_commit[job_id] = commit
