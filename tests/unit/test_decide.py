"""The orchestrator's decisions, rule by rule."""

from __future__ import annotations

from dataclasses import replace

import pytest

from contracts import FileStatus, JobStage, StageReport, TaskStatus
from contracts.file_events import FileFailed
from contracts.job_events import JobInvalid
from services.job_orchestrator.core.decide import BranchDue, Start, decide
from services.job_orchestrator.core.job import JOB_BRANCH, BranchState, NeedsAllBranches
from tests.unit.orchestration import Drive, workflow

TWO = workflow({"stage": "downloading"}, {"stage": "in_progress"})


def test_a_job_runs_through_its_steps() -> None:
    d = Drive(TWO)
    d.feed(d.start)
    assert d.names()[:4] == ["job_create_event", "file_add_to_job_event", "job_start_event", "job_stage_update_event"]
    d.report(d.tasks[0])
    d.report(d.tasks[1])
    assert d.stages() == ["downloading", "in_progress", "completed"]
    assert d.names()[-1] == "job_finished_event" and "file_done_event" in d.names()
    assert d.job is not None and d.job.stage is JobStage.COMPLETED


def test_events_are_sent_before_the_tasks_that_follow_from_them() -> None:
    d = Drive(TWO)
    outputs = d.feed(d.start).outputs
    assert [o.command for o in outputs if o.topic.startswith("stage.tasks")] == [True]
    assert not any(o.command for o in outputs if o.topic in ("job.events", "file.events"))


def test_a_repeated_create_job_changes_nothing() -> None:
    d = Drive(TWO)
    d.feed(d.start)
    assert d.feed(d.start).refused == "job exists"


def test_files_progress_independently_and_the_stage_follows_the_first() -> None:
    d = Drive(TWO, files=2)
    d.feed(d.start)
    d.report(d.tasks[0])
    assert d.stages() == ["downloading", "in_progress"]
    assert [t.step for t in d.tasks] == ["s0", "s0", "s1"]
    d.report(d.tasks[1])
    assert d.stages() == ["downloading", "in_progress"], "the second file moves no stage"


def test_a_job_step_waits_for_every_file() -> None:
    d = Drive(workflow({}, {"scope": "job"}, {}), files=2)
    d.feed(d.start)
    d.report(d.tasks[0])
    assert d.branch("f0").state is BranchState.ARRIVED and len(d.tasks) == 2
    d.report(d.tasks[1])
    assert d.tasks[-1].file_id is None
    d.report(d.tasks[-1])
    assert [t.file_id for t in d.tasks[-2:]] == ["f0", "f1"] and d.tasks[-1].step == "s2"
    d.report(d.tasks[-1])
    d.report(d.tasks[-2])
    assert d.job is not None and d.job.stage is JobStage.COMPLETED


def test_a_join_with_branches_that_are_not_loaded_asks_for_them() -> None:
    d = Drive(workflow({"scope": "job"}, {}), files=2)
    d.feed(d.start)
    d.unloaded()
    with pytest.raises(NeedsAllBranches):
        d.report(d.tasks[0])


def test_best_effort_drops_a_failed_file_and_names_it() -> None:
    d = Drive(workflow({"validates": True}, {}), files=3)
    d.feed(d.start)
    d.report(d.tasks[0], TaskStatus.KO, code="encrypted", message="needs a password")
    d.report(d.tasks[1])
    d.report(d.tasks[2])
    d.report(d.tasks[3], TaskStatus.KO, code="broken", message="no text")
    d.report(d.tasks[4])
    assert d.job is not None and d.job.stage is JobStage.COMPLETED
    assert d.branch("f0").status is FileStatus.INVALID and d.branch("f1").status is FileStatus.FAILED
    finished = d.events[-1].event
    assert finished.finished_files == 1 and finished.failed_files == 2
    assert finished.error_messages == ("file0.pdf: needs a password [encrypted]", "file1.pdf: no text [broken]")


def test_all_files_invalid_is_an_invalid_job_and_all_failed_a_failed_one() -> None:
    for validates, stage, name in ((True, JobStage.INVALID, "job_invalid_event"), (False, JobStage.FAILED, "job_failed_event")):
        d = Drive(workflow({"validates": validates}))
        d.feed(d.start)
        d.report(d.tasks[0], TaskStatus.KO, code="x", message="y")
        assert d.job is not None and d.job.stage is stage and d.names()[-1] == name


def test_join_all_ends_the_job_with_the_first_failure_and_withdraws_the_rest() -> None:
    d = Drive(workflow({}, join="all"), files=2)
    d.feed(d.start)
    d.report(d.tasks[0], TaskStatus.KO, code="x", message="y")
    assert d.job is not None and d.job.stage is JobStage.FAILED
    assert [r.lease for r in d.revoked] == [d.tasks[1].lease]
    assert d.report(d.tasks[1]).refused is not None


def test_a_retriable_failure_is_retried_after_a_wait_and_fenced() -> None:
    d = Drive(workflow({"retry": {"max_attempts": 3, "initial_s": 10, "jitter": 0}}))
    d.feed(d.start)
    d.report(d.tasks[0], TaskStatus.ERR, code="busy", message="try later")
    retry = d.events[-1].event
    assert retry.NAME == "job_retry_event" and retry.retries == 1 and retry.exceeded_retries is False
    assert retry.retry_at == pytest.approx(d.now.timestamp() + 10)
    assert len(d.tasks) == 1
    d.due()
    assert d.tasks[1].attempt == 2 and d.tasks[1].lease != d.tasks[0].lease
    assert d.report(d.tasks[0]).refused == "stale attempt"
    d.report(d.tasks[1])
    assert d.job is not None and d.job.stage is JobStage.COMPLETED


def test_attempts_are_spent_once() -> None:
    d = Drive(workflow({"retry": {"max_attempts": 2, "initial_s": 0}}))
    d.feed(d.start)
    d.report(d.tasks[0], TaskStatus.ERR, code="busy", message="m")
    d.due()
    d.report(d.tasks[1], TaskStatus.ERR, code="busy", message="m")
    names = d.names()
    assert names.count("job_retry_event") == 1 and names.count("job_exceeded_retries_event") == 1
    assert names[-1] == "job_failed_event" and d.events[-1].event.exceeded_retries is True


def test_a_fatal_code_is_not_retried() -> None:
    d = Drive(workflow({"retry": {"max_attempts": 5, "fatal": ["never"]}}))
    d.feed(d.start)
    d.report(d.tasks[0], TaskStatus.ERR, code="never", message="m")
    assert "job_retry_event" not in d.names() and d.names()[-1] == "job_failed_event"


def test_a_queued_report_uses_no_attempt() -> None:
    d = Drive(workflow({"retry": {"max_attempts": 1}}))
    d.feed(d.start)
    for _ in range(5):
        d.report(d.tasks[-1], TaskStatus.QUEUED, retry_in=30)
        d.due()
    assert d.tasks[-1].attempt == 1 and len({t.lease for t in d.tasks}) == 6
    d.report(d.tasks[-1])
    assert d.job is not None and d.job.stage is JobStage.COMPLETED


def test_a_task_that_no_worker_takes_fails() -> None:
    d = Drive(workflow({"retry": {"max_attempts": 2}, "timeouts": {"queued_s": 60}}))
    d.feed(d.start)
    d.due()
    assert d.events[-1].event.code == "timeout_queued" and d.revoked[0].lease == d.tasks[0].lease


def test_a_silent_worker_loses_its_lease_and_a_reporting_one_keeps_it() -> None:
    d = Drive(workflow({"timeouts": {"heartbeat_s": 10, "running_s": 1000}}))
    d.feed(d.start)
    d.report(d.tasks[0], TaskStatus.RUN, worker="w-1")
    first = d.branch("f0").due_at
    assert first == pytest.approx(d.now.timestamp() + 30)
    d.now = d.now.replace(second=20)
    d.report(d.tasks[0], TaskStatus.RUN, worker="w-1")
    assert d.branch("f0").due_at == pytest.approx((first or 0) + 20)
    d.due()
    assert d.events[-1].event.code == "lease_expired" and "w-1" in (d.events[-1].event.message or "")


def test_an_outdated_timer_changes_nothing() -> None:
    d = Drive(TWO)
    d.feed(d.start)
    old = d.branch("f0").lease
    d.report(d.tasks[0])

    assert d.feed(BranchDue("job-1", "f0", old)).refused == "timer is void"


def test_cancel_reaches_the_worker_and_ends_the_job() -> None:
    d = Drive(TWO, files=2)
    d.feed(d.start)
    d.cancel()
    assert d.job is not None and d.job.stage is JobStage.CANCELLED
    assert {r.lease for r in d.revoked} == {t.lease for t in d.tasks}
    assert d.events[-1].event.NAME == "job_failed_event" and d.events[-1].event.stage is JobStage.CANCELLED
    assert d.cancel().refused == "job has ended"
    assert d.report(d.tasks[0]).refused is not None


def test_another_tenants_cancel_and_report_are_refused() -> None:
    d = Drive(TWO)
    d.feed(d.start)
    assert d.cancel(tenant="t2").refused == "unknown job"
    assert d.report(d.tasks[0], tenant_id="t2").refused == "other tenant"
    assert d.report(d.tasks[0], file_id="f9").refused == "unknown file"
    assert d.report(d.tasks[0], lease="forged").refused == "stale attempt"


def test_a_repeated_report_counts_once() -> None:
    d = Drive(TWO)
    d.feed(d.start)
    d.report(d.tasks[0])
    assert d.report(d.tasks[0]).refused == "stale attempt"
    assert len(d.tasks) == 2


def test_a_workflow_that_does_not_exist_makes_the_job_invalid() -> None:
    d = Drive(TWO)
    decision = decide(None, Start(d.start.request, None), d.now)
    assert decision.job is not None and decision.job.stage is JobStage.INVALID
    assert "no workflow 'w'" in decision.job.errors[0]
    events = [o.message for o in decision.outputs]
    files = [e.event for e in events if isinstance(e, FileFailed)]
    assert [(f.file_id, f.file_status, f.message) for f in files] == [("f0", FileStatus.INVALID, decision.job.errors[0])]
    assert isinstance(events[-1], JobInvalid) and events[-1].event.file_ends == 1


def test_a_workflow_with_file_steps_needs_files() -> None:
    d = Drive(TWO, files=0)
    d.feed(d.start)
    assert d.job is not None and d.job.stage is JobStage.INVALID and "at least one file" in d.job.errors[0]


def test_a_result_of_the_wrong_shape_fails_the_attempt_not_the_service() -> None:
    d = Drive(workflow({"retry": {"max_attempts": 1}}))
    d.feed(d.start)
    d.report(d.tasks[0], result={"file": {"size": "many"}})
    assert d.events[-1].event.NAME == "job_failed_event" and "invalid_result" in d.events[-1].event.error_messages[0]


def test_a_result_becomes_file_events() -> None:
    d = Drive(workflow({}))
    d.feed(d.start)
    result = {
        "tag": {"name": "invoice", "confidence": 0.9},
        "fields": {"total": 1},
        "properties": {"page_count": 3},
        "file": {"size": 7},
    }
    d.report(d.tasks[0], result=result)
    for name in (
        "file_category_create_event",
        "file_change_tag_event",
        "file_extracted_data_create_event",
        "file_property_create_event",
        "file_update_event",
    ):
        assert name in d.names()
    done = next(e.event for e in d.events if e.event.NAME == "file_done_event")
    assert done.tag_name == "invoice" and done.file_status is FileStatus.FINISHED


def test_a_result_without_a_tag_is_an_event_too() -> None:
    d = Drive(workflow({}))
    d.feed(d.start)
    d.report(d.tasks[0], result={"tag": None})
    assert "file_category_delete_event" in d.names()


def test_a_job_without_files_runs_job_steps() -> None:
    d = Drive(workflow({"scope": "job"}, {"scope": "job"}), files=0)
    d.feed(d.start)
    d.report(d.tasks[0])
    d.report(d.tasks[1])
    assert d.job is not None and d.job.stage is JobStage.COMPLETED
    assert d.branch(JOB_BRANCH).state is BranchState.DONE


def test_a_failed_job_step_fails_the_job() -> None:
    d = Drive(workflow({}, {"scope": "job"}))
    d.feed(d.start)
    d.report(d.tasks[0])
    d.report(d.tasks[1], TaskStatus.KO, code="x", message="y")
    assert d.job is not None and d.job.stage is JobStage.FAILED


def test_ten_thousand_files_need_not_be_loaded_for_one_report() -> None:
    d = Drive(TWO, files=1000)
    d.feed(d.start)
    d.unloaded("f7")
    decision = decide(d.job, d_report(d, 7), d.now)
    assert decision.refused is None and set(decision.job.branches) == {"f7"}  # type: ignore[union-attr]


def d_report(d: Drive, n: int) -> StageReport:

    task = d.tasks[n]
    fields = task.model_dump(include={"job_id", "tenant_id", "file_id", "step", "action", "attempt", "lease"})
    return StageReport(report_id="r", reported_at=d.now, status=TaskStatus.OK, **fields)


def test_files_that_share_an_id_are_refused() -> None:
    d = Drive(TWO, files=2)
    request = d.start.request.model_copy(update={"files": (d.start.request.files[0], d.start.request.files[0])})
    decision = decide(None, replace(d.start, request=request), d.now)
    assert decision.job is not None and decision.job.stage is JobStage.INVALID
