"""What was written is handed out again, as long as the row still says it."""

from __future__ import annotations

from dataclasses import replace

from services.job_orchestrator.adapters.codec import job_to_text, lane_to_text
from services.job_orchestrator.adapters.recent import LARGEST, RecentJobs
from services.job_orchestrator.core.job import JOB_LANE
from tests.unit.orchestration import Drive, workflow


def test_a_row_that_says_the_same_is_the_same_value_and_another_is_decoded() -> None:
    drive = Drive(workflow({"scope": "file"}))
    drive.feed(drive.start)
    job = drive.job
    assert job is not None
    lane = job.lanes["f0"]
    recent = RecentJobs(2)
    recent.keep_lane(job.id, lane, lane_to_text(lane))
    assert recent.lane(job.id, "f0", lane_to_text(lane)) is lane
    later = replace(lane, attempt=lane.attempt + 1)
    assert recent.lane(job.id, "f0", lane_to_text(later)) == later
    assert recent.lane("another", "f0", lane_to_text(lane)) == lane, "of another job, though it says the same"
    for n in range(2):
        recent.keep_lane("many", replace(lane, id=str(n)), "x")
    again = recent.lane(job.id, "f0", lane_to_text(lane))
    assert again == lane and again is not lane, "forgotten for newer ones"

    large = replace(lane, results={"s0": {"text": "x" * LARGEST}})
    recent.keep_lane(job.id, large, lane_to_text(large))
    decoded = recent.lane(job.id, "f0", lane_to_text(large))
    assert decoded == large and decoded is not large, "large ones are not kept"

    body = job_to_text(job)
    assert recent.job(job.id, body, job.workflow, job.lanes) is not job, "its lane is not kept here"
    recent.keep_lane(job.id, lane, lane_to_text(lane))
    recent.keep_job(job, body)
    assert recent.job(job.id, body, job.workflow, {"f0": lane}) is job
    with_large = replace(job, lanes={"f0": large})
    recent.keep_job(with_large, body)
    assert recent.job(job.id, body, job.workflow, {"f0": large}) is not with_large, "large lanes are not kept with it either"
    some = {JOB_LANE: lane}
    assert recent.job(job.id, job_to_text(job), job.workflow, some) == replace(job, lanes=some)
    ended = replace(job, done=1)
    assert recent.job(job.id, job_to_text(ended), job.workflow, {}) == replace(ended, lanes={})
