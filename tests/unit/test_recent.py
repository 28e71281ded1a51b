"""What was written is handed out again, as long as the row still says it."""

from __future__ import annotations

from dataclasses import replace

from services.job_orchestrator.adapters.codec import branch_to_text, job_to_text
from services.job_orchestrator.adapters.recent import LARGEST, RecentJobs
from services.job_orchestrator.core.job import JOB_BRANCH
from tests.unit.orchestration import Drive, workflow


def test_a_row_that_says_the_same_is_the_same_value_and_another_is_decoded() -> None:
    drive = Drive(workflow({"scope": "file"}))
    drive.feed(drive.start)
    job = drive.job
    assert job is not None
    branch = job.branches["f0"]
    recent = RecentJobs(2)
    recent.keep_branch(job.id, branch, branch_to_text(branch))
    assert recent.branch(job.id, "f0", branch_to_text(branch)) is branch
    later = replace(branch, attempt=branch.attempt + 1)
    assert recent.branch(job.id, "f0", branch_to_text(later)) == later
    assert recent.branch("another", "f0", branch_to_text(branch)) == branch, "of another job, though it says the same"
    for n in range(2):
        recent.keep_branch("many", replace(branch, id=str(n)), "x")
    again = recent.branch(job.id, "f0", branch_to_text(branch))
    assert again == branch and again is not branch, "forgotten for newer ones"

    large = replace(branch, results={"s0": {"text": "x" * LARGEST}})
    recent.keep_branch(job.id, large, branch_to_text(large))
    decoded = recent.branch(job.id, "f0", branch_to_text(large))
    assert decoded == large and decoded is not large, "large ones are not kept"

    body = job_to_text(job)
    assert recent.job(job.id, body, job.workflow, job.branches) is not job, "its lane is not kept here"
    recent.keep_branch(job.id, branch, branch_to_text(branch))
    recent.keep_job(job, body)
    assert recent.job(job.id, body, job.workflow, {"f0": branch}) is job
    with_large = replace(job, branches={"f0": large})
    recent.keep_job(with_large, body)
    assert recent.job(job.id, body, job.workflow, {"f0": large}) is not with_large, "large branches are not kept with it either"
    some = {JOB_BRANCH: branch}
    assert recent.job(job.id, job_to_text(job), job.workflow, some) == replace(job, branches=some)
    ended = replace(job, done=1)
    assert recent.job(job.id, job_to_text(ended), job.workflow, {}) == replace(ended, branches={})
