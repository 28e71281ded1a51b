"""A job or branch that was written recently is returned as it was, while its row has the same text."""

from __future__ import annotations

from dataclasses import replace

from services.job_orchestrator.adapters.codec import branch_to_text, job_to_text
from services.job_orchestrator.adapters.recent_jobs import LARGEST, RecentJobs
from services.job_orchestrator.core.job import JOB_BRANCH, Branch, Job
from tests.unit.orchestration import Drive, workflow


def _started() -> tuple[Job, Branch]:
    drive = Drive(workflow({"scope": "file"}))
    drive.feed(drive.start)
    assert drive.job is not None
    return drive.job, drive.job.branches["f0"]


def test_a_branch_is_decoded_only_when_its_text_is_new() -> None:
    job, branch = _started()
    recent = RecentJobs(2)
    recent.keep_branch(job.id, branch, branch_to_text(branch))
    assert recent.branch(job.id, "f0", branch_to_text(branch)) is branch
    later = replace(branch, attempt=branch.attempt + 1)
    assert recent.branch(job.id, "f0", branch_to_text(later)) == later, "another replica wrote the row"
    other = recent.branch("another", "f0", branch_to_text(branch))
    assert other == branch and other is not branch, "the branch of another job, with the same text"


def test_the_oldest_and_the_large_are_not_kept() -> None:
    job, branch = _started()
    recent = RecentJobs(2)
    recent.keep_branch(job.id, branch, branch_to_text(branch))
    for n in range(2):
        recent.keep_branch("many", replace(branch, id=str(n)), "x")
    again = recent.branch(job.id, "f0", branch_to_text(branch))
    assert again == branch and again is not branch, "two newer ones took its place"
    large = replace(branch, results={"s0": {"text": "x" * LARGEST}})
    recent.keep_branch(job.id, large, branch_to_text(large))
    decoded = recent.branch(job.id, "f0", branch_to_text(large))
    assert decoded == large and decoded is not large


def test_a_job_is_kept_with_its_branches_where_they_are_kept_too() -> None:
    job, branch = _started()
    recent = RecentJobs()
    text = job_to_text(job)
    assert recent.job(job.id, text, job.workflow, job.branches) is not job, "never written here"
    recent.keep_branch(job.id, branch, branch_to_text(branch))
    recent.keep_job(job, text)
    assert recent.job(job.id, text, job.workflow, {"f0": branch}) is job
    large = replace(branch, results={"s0": {"text": "x" * LARGEST}})
    with_large = replace(job, branches={"f0": large})
    recent.keep_job(with_large, text)
    assert recent.job(job.id, text, job.workflow, {"f0": large}) is not with_large, "a large branch is not held twice"


def test_a_job_gets_the_branches_and_the_text_of_the_row() -> None:
    job, branch = _started()
    recent = RecentJobs()
    recent.keep_job(job, job_to_text(job))
    some = {JOB_BRANCH: branch}
    assert recent.job(job.id, job_to_text(job), job.workflow, some) == replace(job, branches=some)
    ended = replace(job, done=1)
    assert recent.job(job.id, job_to_text(ended), job.workflow, {}) == replace(ended, branches={})
