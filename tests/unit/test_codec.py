"""Job headers and branches survive encoding as text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from contracts import JobRequest
from services.job_orchestrator.adapters.codec import LARGEST, job_from_text, job_to_text
from tests.unit.orchestration import Drive, workflow


@pytest.mark.parametrize("size", [10, LARGEST])
def test_a_header_is_read_as_it_was_written(size: int) -> None:
    drive = Drive(workflow({}))
    drive.feed(drive.start)
    assert drive.job is not None
    job = replace(drive.job, branches={}, request=JobRequest(workflow="w", metadata={"note": "x" * size}), paused_by="me")
    for _ in range(2):
        assert job_from_text(job.id, job_to_text(job), job.workflow, {}) == job
