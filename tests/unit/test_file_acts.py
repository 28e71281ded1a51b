"""What people do to files: each act's events, refusals, and any order of acts against a model."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from contracts import (
    DeleteFileProperty,
    DeleteFileValue,
    EraseFile,
    FileErased,
    FileStatus,
    MoveFile,
    RecycleFile,
    RemoveFileTag,
    RestoreFile,
    SetFileValue,
    Tenancy,
)
from services.job_orchestrator.core.decide import decide
from services.job_orchestrator.core.decision_builder import unlimited
from services.job_orchestrator.core.file_acts import Arrival, change_file, values_of
from services.job_orchestrator.core.job import Decision, Job
from tests.unit.orchestration import OWNER, Drive, workflow

NOW = datetime(2026, 2, 1, tzinfo=UTC)
RESULT: dict[str, Any] = {
    "tag": {"name": "invoice", "confidence": 0.9}, "fields": {"total": "12.00", "iban": "DE1"}, "properties": {"page_count": "2"},
    "result_blob": "t1/result",
}  # fmt: skip


def ended_job(job_id: str = "job-1", files: int = 1) -> Job:
    drive = Drive(workflow({}), files=files, job_id=job_id)
    drive.feed(drive.start)
    for task in list(drive.tasks):
        drive.report(task, result=RESULT)
    assert drive.job is not None and drive.job.ended
    return drive.job


def command(kind: Any, number: int = 1, file_id: str = "f0", job_id: str = "job-1", **fields: Any) -> Any:
    return kind(command_id=f"cmd-{number}", job_id=job_id, owner=OWNER, issued_at=NOW, file_id=file_id, **fields)


def act(job: Job, kind: Any, number: int = 1, **fields: Any) -> Decision:
    return decide(job, command(kind, number, **fields), NOW)


def named(decision: Decision) -> list[str]:
    return [getattr(o.message, "event", o.message).__class__.__name__.removesuffix("Fields") for o in decision.outputs]


def event(decision: Decision, name: str) -> Any:
    return next(o.message.event for o in decision.outputs if type(o.message).__name__ == name)  # type: ignore[attr-defined]


def test_a_corrected_value_is_deleted_and_created() -> None:
    done = act(ended_job(), SetFileValue, name="total", value="13.00")
    assert named(done) == ["FileExtractedDataDelete", "FileExtractedDataCreate"]
    assert json.loads(event(done, "FileExtractedDataDelete").content) == {"total": "12.00"}
    created = event(done, "FileExtractedDataCreate")
    assert json.loads(created.content) == {"total": "13.00", "iban": "DE1"} and created.provider == "user"
    assert (created.revision, created.by, created.job_id, created.file_id) == (1, "ann", "job-1", "f0")
    assert done.job is not None and act(done.job, SetFileValue, 2, name="total", value="13.00").outputs == ()


def test_a_value_may_be_added_also_to_a_file_without_any() -> None:
    job = ended_job()
    for n, name in enumerate(("total", "iban")):
        job = act(job, DeleteFileValue, n, name=name).job or job
    assert values_of(job.branches["f0"].results) == (None, {})
    done = act(job, SetFileValue, 9, name="total", value=1)
    assert named(done) == ["FileExtractedDataCreate"] and event(done, "FileExtractedDataCreate").content == '{"total": 1}'


def test_a_value_a_property_and_the_tag_are_taken_away_once() -> None:
    job = ended_job()
    gone = act(job, DeleteFileValue, name="total")
    assert named(gone) == ["FileExtractedDataDelete"] and event(gone, "FileExtractedDataDelete").content == '{"total": "12.00"}'
    plain = act(gone.job or job, DeleteFileProperty, 2, name="page_count")
    assert named(plain) == ["FilePropertyDelete"] and event(plain, "FilePropertyDelete").value == "2"
    bare = act(plain.job or job, RemoveFileTag, 3)
    removed = event(bare, "FileRemoveTag")
    assert (removed.tag_being_removed_name, removed.classification_score, removed.revision) == ("invoice", 0.9, 3)
    last = bare.job
    assert last is not None and last.branches["f0"].tag is None
    assert act(last, DeleteFileValue, 4, name="total").refused == "no such value"
    assert act(last, DeleteFileProperty, 5, name="page_count").refused == "no such property"
    assert act(last, RemoveFileTag, 6).refused == "no tag"


def test_the_recycle_bin_and_back() -> None:
    done = act(ended_job(), RecycleFile)
    assert named(done) == ["FileMove", "FileMoveToRecycleBin"] and done.job is not None
    there = event(done, "FileMove")
    assert (there.previous_file_directory, there.new_file_directory) == ("jobs/job-1", "recycle_bin")
    for kind in (RecycleFile, RemoveFileTag):
        assert act(done.job, kind, 2).refused == "file is recycled"
    back = act(done.job, RestoreFile, 3)
    assert named(back) == ["FileMove"] and event(back, "FileMove").new_file_directory == "jobs/job-1"
    assert act(back.job or done.job, RestoreFile, 4).refused == "file is not recycled"


def move(source: Job, target: Job, number: int = 1, file_id: str = "f0") -> tuple[Job, Job, Decision]:
    given = command(MoveFile, number, file_id, source.id, to_job_id=target.id)
    left = change_file(source, given, NOW, unlimited)
    if left.refused is not None:
        return source, target, left
    arrived = decide(target, Arrival(given, source, source.branches[file_id]), NOW)
    if arrived.refused is not None:
        return source, target, arrived
    assert left.job is not None and arrived.job is not None and not left.outputs
    return left.job, arrived.job, arrived


def test_a_moved_file_is_pending_in_the_other_job_and_a_rerun_processes_it() -> None:
    drive = Drive(workflow({}), files=0, job_id="job-2")
    source, target, moved = move(ended_job(files=2), _ended_without_files(drive))
    assert named(moved) == ["FileMove", "FileMoveToPending", "FileAddToJob"]
    assert all(o.message.event.job_id == "job-2" for o in moved.outputs), "one partition has all events of the move"  # type: ignore[attr-defined]
    assert (source.total, source.done, set(source.branches) - {""}) == (2, 2, {"f1"}), "counters tell of what ran"
    branch = target.branches["f0"]
    assert (target.total, branch.status, branch.tag) == (0, FileStatus.PENDING, None)
    assert move(target, target, 2)[2].refused == "target has the file"
    gone = act(target, EraseFile, 3, job_id="job-2", recycled=False).outputs[0].message
    assert isinstance(gone, FileErased) and gone.former_job_ids == ("job-1",)
    drive.job = target
    again, _ = drive.rerun(only="failed")
    assert [(t.file_id, dict(t.inputs)) for t in again.tasks] == [("f0", {})], "nothing of the former workflow"


def _ended_without_files(drive: Drive) -> Job:
    drive.feed(drive.start)
    assert drive.job is not None
    if not drive.job.ended:
        drive.cancel()
    assert drive.job.ended
    return drive.job


def test_a_recycled_file_is_erased_and_left_out_of_a_rerun() -> None:
    drive = Drive(workflow({}), files=2)
    job = ended_job(files=2)
    assert act(job, EraseFile).refused == "file is not recycled"
    job = act(job, RecycleFile).job or job
    drive.job = job
    again, decision = drive.rerun()
    assert decision.refused is None and {t.file_id for t in again.tasks} == {"f1"} and again.job is not None
    assert again.job.total == 1
    done = act(job, EraseFile, 2)
    (erased,) = [o.message for o in done.outputs]
    assert isinstance(erased, FileErased) and erased.blobs == ("t1/0", "t1/result")
    assert done.job is not None and set(done.job.branches) == {"f1"}
    assert act(done.job, RestoreFile, 3).refused == "no such file"


@pytest.mark.parametrize("kind", [RecycleFile, RestoreFile, EraseFile])
def test_a_running_job_keeps_its_files(kind: Any) -> None:
    drive = Drive(workflow({"wait": {"kind": "approval"}, "scope": "file"}))
    drive.feed(drive.start)
    assert drive.job is not None and act(drive.job, kind).refused == "job has not ended"


def test_nobody_changes_what_a_step_works_on_or_what_is_anothers() -> None:
    drive = Drive(workflow({}))
    drive.feed(drive.start)
    assert drive.job is not None
    assert act(drive.job, RemoveFileTag).refused == "file is being processed"
    stranger = command(RecycleFile).model_copy(update={"owner": Tenancy(tenant_id="t2")})
    assert decide(ended_job(), stranger, NOW).refused == "unknown job"
    assert act(ended_job(), RecycleFile, file_id="f9").refused == "no such file"


class FileActs(RuleBasedStateMachine):
    """Acts in any order, each also twice, on one file that wanders between two jobs."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs = {"a": ended_job("a"), "b": ended_job("b", files=2)}
        del self.jobs["b"].branches["f0"]  # type: ignore[attr-defined]
        self.home: str | None = "a"
        self.values: dict[str, Any] = dict(RESULT["fields"])
        self.tag: str | None = "invoice"
        self.recycled = False
        self.revision = self.number = 0
        self.ids: set[str] = set()

    def decide(self, kind: Any, **fields: Any) -> Decision:
        self.number += 1
        assert self.home is not None
        given = command(kind, self.number, job_id=self.home, **fields)
        decision = decide(self.jobs[self.home], given, NOW + timedelta(seconds=self.number))
        again = decide(self.jobs[self.home], given, NOW + timedelta(seconds=self.number))
        assert again.outputs == decision.outputs and again.refused == decision.refused, "the same command decides the same"
        if decision.refused is None and decision.job is not None:
            self.jobs[self.home] = decision.job
        self.keep(decision)
        return decision

    def keep(self, decision: Decision) -> None:
        ids = [o.message.message_id for o in decision.outputs]
        assert len(set(ids)) == len(ids) and not self.ids & set(ids), "each event has an id of its own"
        self.ids.update(ids)
        revisions = {
            r for o in decision.outputs if (r := getattr(getattr(o.message, "event", None), "revision", None)) is not None
        }
        if revisions:
            assert revisions == {self.revision + 1}, "changes are numbered without a gap"
            self.revision += 1

    @precondition(lambda self: self.home)
    @rule(name=st.sampled_from(["total", "iban", "new"]), value=st.integers(0, 2))
    def set_value(self, name: str, value: int) -> None:
        decision = self.decide(SetFileValue, name=name, value=value)
        assert (decision.refused is None) is (not self.recycled)
        if not self.recycled:
            self.values[name] = value

    @precondition(lambda self: self.home)
    @rule(name=st.sampled_from(["total", "iban", "new"]))
    def delete_value(self, name: str) -> None:
        decision = self.decide(DeleteFileValue, name=name)
        assert (decision.refused is None) is (not self.recycled and name in self.values)
        if decision.refused is None:
            del self.values[name]

    @precondition(lambda self: self.home)
    @rule()
    def remove_tag(self) -> None:
        decision = self.decide(RemoveFileTag)
        assert (decision.refused is None) is (not self.recycled and self.tag is not None)
        self.tag = self.tag if self.recycled else None

    @precondition(lambda self: self.home)
    @rule()
    def recycle(self) -> None:
        assert (self.decide(RecycleFile).refused is None) is (not self.recycled)
        self.recycled = True

    @precondition(lambda self: self.home)
    @rule()
    def restore(self) -> None:
        assert (self.decide(RestoreFile).refused is None) is self.recycled
        self.recycled = False

    @precondition(lambda self: self.home)
    @rule()
    def move(self) -> None:
        assert self.home is not None
        other = "b" if self.home == "a" else "a"
        self.number += 1
        self.jobs[self.home], self.jobs[other], decision = move(self.jobs[self.home], self.jobs[other], self.number)
        assert (decision.refused is None) is (not self.recycled)
        if not self.recycled:
            self.keep(decision)
            self.home, self.tag = other, None

    @precondition(lambda self: self.home)
    @rule(recycled=st.booleans())
    def erase(self, recycled: bool) -> None:
        decision = self.decide(EraseFile, recycled=recycled)
        assert (decision.refused is None) is (self.recycled or not recycled)
        self.home = self.home if decision.refused else None

    @precondition(lambda self: not self.home)
    @rule(kind=st.sampled_from([RecycleFile, RestoreFile, RemoveFileTag, EraseFile]), job=st.sampled_from(["a", "b"]))
    def after_the_erasure(self, kind: Any, job: str) -> None:
        assert decide(self.jobs[job], command(kind, 10**6, job_id=job), NOW).refused == "no such file"

    @invariant()
    def agrees(self) -> None:
        for name, job in self.jobs.items():
            assert ("f0" in job.branches) is (name == self.home)
        if self.home is not None:
            branch = self.jobs[self.home].branches["f0"]
            assert dict(values_of(branch.results)[1]) == self.values
            assert (branch.tag, branch.recycled_at is not None) == (self.tag, self.recycled)


TestFileActs = FileActs.TestCase
TestFileActs.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
