"""Headers and branches as text and back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from contracts import JobRequest
from services.job_orchestrator.adapters.codec import LARGEST, MOST, job_from_text, job_to_text
from tests.unit.orchestration import Drive, workflow


@pytest.mark.parametrize("size", [10, LARGEST])
def test_a_header_is_read_as_it_was_written(size: int) -> None:
    drive = Drive(workflow({}))
    drive.feed(drive.start)
    assert drive.job is not None
    job = replace(drive.job, branches={}, request=JobRequest(workflow="w", metadata={"note": "x" * size}), paused_by="me")
    for _ in range(2):
        assert job_from_text(job.id, job_to_text(job), job.workflow, {}) == job


def test_a_request_is_written_as_it_is_and_not_as_one_before_it_was() -> None:
    drive = Drive(workflow({}))
    drive.feed(drive.start)
    assert drive.job is not None
    for n in range(MOST + 10):
        # Each is forgotten by us at once, and its number may be the next one's.
        job = replace(drive.job, branches={}, request=JobRequest(workflow="w", job_key=str(n)))
        assert job_from_text(job.id, job_to_text(job), job.workflow, {}).request.job_key == str(n)
