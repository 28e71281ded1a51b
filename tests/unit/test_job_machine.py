"""Invariants of a job hold for any order of reports, repeats, forgeries, timers and cancels."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from contracts import JobStage, PauseJob, PokeJob, ResumeJob, RetryJobNow, TaskStatus, TerminateJob
from services.job_orchestrator.adapters.codec import branch_from_text, branch_to_text, job_from_text, job_to_text
from services.job_orchestrator.core.job import BRANCH_TABLE, BranchState, Trigger
from tests.unit.orchestration import Drive, workflow

WAIT = st.sampled_from(
    [
        {"kind": "time", "for_s": 60},
        {"kind": "time", "until": "timestamp('2026-01-02T00:00:00Z')"},
        {"kind": "poke", "timeout_s": 50, "on_timeout": "OK"},
        {"kind": "approval", "timeout_s": 50},
        {"kind": "poke"},
    ]
)
STEP = st.fixed_dictionaries(
    {
        "scope": st.sampled_from(["file", "file", "job"]),
        "validates": st.booleans(),
        "stage": st.sampled_from(["downloading", "in_progress", "syncing"]),
        "retry": st.fixed_dictionaries(
            {
                "max_attempts": st.integers(1, 3),
                "initial_s": st.sampled_from([0, 5]),
                "budget_s": st.sampled_from([None, 3]),
                "retriable": st.sampled_from([None, None, ["x"]]),
            }
        ),
        "timeouts": st.fixed_dictionaries({"total_s": st.sampled_from([None, None, 20])}),
        "next": st.lists(
            st.fixed_dictionaries({"status": st.sampled_from(["OK", "KO", "ERR"]), "to": st.sampled_from(["end", "fail"])}),
            max_size=1,
        ),
    },
    optional={"wait": WAIT, "when": st.sampled_from(["true", "job.retries == 0", "results.missing.x == 1"])},
)
RESCUE = st.lists(st.just({"name": "undo", "action": "undo", "scope": "job", "retry": {"max_attempts": 1}}), max_size=1)


class JobMachine(RuleBasedStateMachine):
    """`Drive` checks dense sequences, one end, declared stages and bounded attempts after every decision."""

    @initialize(
        steps=st.lists(STEP, min_size=1, max_size=4),
        files=st.integers(1, 4),
        join=st.sampled_from(["best_effort", "all", "quorum"]),
        rescue=RESCUE,
        later=st.booleans(),
        scarce=st.booleans(),
    )
    def create(
        self, steps: list[dict[str, object]], files: int, join: str, rescue: list[dict[str, object]], later: bool, scarce: bool
    ) -> None:
        quorum = {"quorum": 2} if join == "quorum" else {}
        start_at = {"start_at": datetime(2026, 1, 1, 1, tzinfo=UTC)} if later else {}
        self.drive = Drive(workflow(*steps, join=join, rescue=rescue, **quorum), files=files, **start_at)
        if scarce:
            self.drive.credits = lambda action: 0
        self.drive.feed(self.drive.start)

    @rule(data=st.data(), status=st.sampled_from([TaskStatus.OK] * 4 + list(TaskStatus)))
    def report_on_any_task(self, data: st.DataObject, status: TaskStatus) -> None:
        if self.drive.tasks:
            self.drive.report(data.draw(st.sampled_from(self.drive.tasks)), status, code="c", message="m", worker="w")

    @rule(data=st.data())
    def a_timer_goes_off(self, data: st.DataObject) -> None:
        assert self.drive.job is not None
        waiting = [branch.id for branch in self.drive.job.branches.values() if branch.due_at is not None]
        if waiting:
            self.drive.due(data.draw(st.sampled_from(sorted(waiting))))

    @rule(data=st.data())
    def a_credit_comes(self, data: st.DataObject) -> None:
        assert self.drive.job is not None
        ready = sorted(branch.id for branch in self.drive.job.branches.values() if branch.state is BranchState.READY)
        if ready:
            paused = self.drive.job.paused_by is not None
            before = len(self.drive.tasks)
            decision = self.drive.grant(data.draw(st.sampled_from(ready)))
            assert (decision.refused == "job is paused") == paused
            assert len(self.drive.tasks) == before + (not paused)

    @rule(kind=st.sampled_from([PauseJob, ResumeJob, RetryJobNow]))
    def a_verb(self, kind: type) -> None:
        before = len(self.drive.tasks)
        self.drive.verb(kind)
        assert kind is RetryJobNow or len(self.drive.tasks) == before

    @rule(outcome=st.sampled_from(["OK", "KO"]))
    def a_poke(self, outcome: str) -> None:
        self.drive.verb(PokeJob, outcome=outcome, data={"x": 1}, approval=outcome == "OK")

    @precondition(lambda self: len(self.drive.events) > 25)
    @rule()
    def terminate(self) -> None:
        if self.drive.verb(TerminateJob).refused is None:
            assert self.drive.job is not None and self.drive.job.stage is JobStage.FAILED

    @rule()
    def create_again(self) -> None:
        assert self.drive.feed(self.drive.start).refused == "job exists"

    @precondition(lambda self: len(self.drive.events) > 12)
    @rule()
    def cancel(self) -> None:
        self.drive.cancel()

    @rule()
    def store_and_load(self) -> None:
        job = self.drive.job
        assert job is not None
        branches = {k: branch_from_text(k, branch_to_text(v)) for k, v in job.branches.items()}
        self.drive.job = job_from_text(job.id, job_to_text(job), job.workflow, branches)
        assert self.drive.job == job

    @invariant()
    def an_open_job_has_somebody_who_moves_it(self) -> None:
        job = getattr(self, "drive", None) and self.drive.job
        if job and not job.ended:
            held = (BranchState.READY, BranchState.WAITING)
            assert any(x.due_at is not None or x.state in held for x in job.branches.values()), "orphan: no attempt and no timer"

    @invariant()
    def counters_say_what_the_branches_say(self) -> None:
        job = getattr(self, "drive", None) and self.drive.job
        if job:
            states = [branch.state for key, branch in job.branches.items() if key]
            counted = {
                "done": BranchState.DONE,
                "failed": BranchState.FAILED,
                "invalid": BranchState.INVALID,
                "cancelled": BranchState.CANCELLED,
            }
            for name, state in counted.items():
                assert getattr(job, name) == states.count(state), name


JobMachine.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestJobMachine = JobMachine.TestCase


def test_every_pair_is_listed_or_refused() -> None:
    ended = {BranchState.DONE, BranchState.FAILED, BranchState.INVALID, BranchState.CANCELLED}
    for state in BranchState:
        for trigger in Trigger:
            if state in ended:
                assert (state, trigger) not in BRANCH_TABLE
    assert all(targets for targets in BRANCH_TABLE.values())
