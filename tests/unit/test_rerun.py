"""Reruns: which results stay, which steps run again, and which reruns are refused."""

from __future__ import annotations

from typing import Any

import pytest

from contracts import FileStatus, JobStage, TaskStatus
from services.job_orchestrator.core.workflow import Workflow
from tests.unit.orchestration import Drive, workflow

STEPS: list[dict[str, Any]] = [
    {"retry": {"max_attempts": 1}}, {"retry": {"max_attempts": 1}, "open": ["strict"]}, {"scope": "job"},
]  # fmt: skip


def ran(flow: Workflow | None = None, fail: tuple[str, str] | None = ("f1", "s1")) -> Drive:
    """A job of three files that has ended, with one file failed at one step."""
    drive = Drive(flow or workflow(*STEPS), files=3)
    drive.feed(drive.start)
    done = 0
    while done < len(drive.tasks):
        task = drive.tasks[done]
        status = TaskStatus.KO if fail == (task.file_id, task.step) else TaskStatus.OK
        drive.report(task, status, result={"by": task.step} if status is TaskStatus.OK else {})
        done += 1
    assert drive.job is not None and drive.job.ended
    return drive


def finish(drive: Drive) -> list[tuple[str | None, str]]:
    """Complete every task; returns the tasks."""
    done = 0
    while done < len(drive.tasks):
        drive.report(drive.tasks[done], TaskStatus.OK, result={"by": "again"})
        done += 1
    assert drive.job is not None and drive.job.stage is JobStage.COMPLETED
    return [(t.file_id, t.step) for t in drive.tasks]


def test_only_the_failed_file_is_run_again_from_where_it_failed() -> None:
    again, decision = ran().rerun(only="failed")
    assert decision.refused is None
    assert finish(again) == [("f1", "s1"), (None, "s2")], "finished files stay; the join runs again"
    assert again.job is not None and again.job.done == 3 and again.job.rerun_of == "job-1"
    assert again.tasks[0].inputs == {"s0": {"by": "s0"}}, "with the results of the steps before"


def test_all_of_it_from_the_beginning_or_from_a_step() -> None:
    again, _ = ran().rerun()
    assert len(finish(again)) == 7
    again, _ = ran(fail=None).rerun(from_step="s1")
    assert sorted(finish(again), key=str) == sorted([("f0", "s1"), ("f1", "s1"), ("f2", "s1"), (None, "s2")], key=str)
    again, _ = ran(fail=None).rerun(from_step="s2")
    assert finish(again) == [(None, "s2")]


def test_some_files_alone() -> None:
    again, _ = ran(fail=None).rerun(file_ids=("f2",), from_step="s1")
    assert finish(again) == [("f2", "s1"), (None, "s2")]


def test_changed_steps_are_run_again() -> None:
    raised = workflow(STEPS[0], {**STEPS[1], "revision": 2}, STEPS[2])
    again, _ = ran(fail=None).rerun(raised, only="changed")
    assert {step for _, step in finish(again)} == {"s1", "s2"}
    _, decision = ran(fail=None).rerun(only="changed")
    assert decision.refused == "nothing to run again"


def test_settings_and_metadata_are_edited() -> None:
    again, _ = ran().rerun(only="failed", args={"s1": {"strict": False}}, metadata={"case": 2})
    assert again.tasks[0].config == {"strict": False}
    assert again.job is not None and again.job.request.metadata == {"case": 2}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"from_step": "s9"}, "unknown step"), ({"file_ids": ("f9",)}, "unknown file"), ({"only": "failed"}, None)],
)
def test_an_impossible_rerun_is_refused(fields: dict[str, Any], reason: str | None) -> None:
    _, decision = ran().rerun(**fields)
    assert decision.refused == reason


def test_a_file_that_is_not_rerun_keeps_its_end() -> None:
    again, _ = ran().rerun(file_ids=("f2",), from_step="s1")
    assert again.job is not None
    said = [e.event for e in again.events if e.event.NAME == "file_status_update_event" and e.event.file_status.terminal]
    assert [(e.file_id, e.file_status) for e in said] == [("f1", FileStatus.FAILED)]


def test_a_running_job_cannot_be_rerun() -> None:
    drive = Drive(workflow(*STEPS))
    drive.feed(drive.start)
    _, decision = drive.rerun()
    assert decision.refused == "job has not ended"
