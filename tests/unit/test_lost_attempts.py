"""Attempts whose worker is stopped, or ends without a word."""

from __future__ import annotations

from contracts import JobStage, TaskStatus
from contracts.stage import WORKER_STOPPED
from services.job_orchestrator.adapters.codec import branch_from_text, branch_to_text
from tests.unit.orchestration import Drive, workflow


def test_an_attempt_that_a_stopped_worker_hands_back_begins_anew_and_counts_nowhere() -> None:
    d = Drive(workflow({"retry": {"max_attempts": 1}}))
    d.feed(d.start)
    for facts in ({"code": WORKER_STOPPED, "retry_in": 0}, {"retry_in": 30}, {"code": WORKER_STOPPED, "retry_in": 0}):
        d.report(d.tasks[-1], TaskStatus.QUEUED, **facts)
        d.due()
    # An action's own polls are those that it asked for.
    assert [(t.attempt, t.polls) for t in d.tasks] == [(1, None), (1, None), (1, 1), (1, 1)] and len(
        {t.lease for t in d.tasks}
    ) == 4
    assert d.branch("f0").returned == 2
    assert branch_from_text("f0", branch_to_text(d.branch("f0"))) == d.branch("f0")
    d.report(d.tasks[-1])
    assert d.job is not None and d.job.stage is JobStage.COMPLETED


def test_a_new_attempt_counts_its_returns_anew() -> None:
    d = Drive(workflow({"retry": {"max_attempts": 2}}))
    d.feed(d.start)
    d.report(d.tasks[-1], TaskStatus.QUEUED, code=WORKER_STOPPED, retry_in=0)
    d.due()
    d.report(d.tasks[-1], TaskStatus.ERR, code="busy")
    d.due()
    assert (d.tasks[-1].attempt, d.tasks[-1].polls, d.branch("f0").returned) == (2, None, None)


def test_a_task_that_kills_every_worker_is_given_up_with_a_reason() -> None:
    d = Drive(workflow({"retry": {"max_attempts": 2}}))
    d.feed(d.start)
    d.report(d.tasks[-1], TaskStatus.RUN, worker="w-1")
    d.due()
    d.due()
    d.report(d.tasks[-1], TaskStatus.RUN, worker="w-2")
    d.due()
    assert d.job is not None and d.job.stage is JobStage.FAILED
    assert [t.attempt for t in d.tasks] == [1, 2] and [r.lease for r in d.revoked] == [t.lease for t in d.tasks]
    assert "worker w-2 ended or fell silent while it ran s0 [lease_expired]" in d.job.errors[0]
