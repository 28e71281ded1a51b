"""Jobs and lanes that this process has lately written or read: what a row still says is not decoded again."""

from __future__ import annotations

from services.job_orchestrator.adapters.codec import job_from_text, lane_from_text
from services.job_orchestrator.core.job import Job, Lane, evolve
from services.job_orchestrator.core.workflow import Workflow
from shared.database.parse_cache import Recent

MOST = 4096
"""Headers, and as many lanes."""
FEW = 2
"""Lanes of a job of one file, or of none."""
LARGEST = 2000
"""Characters of a text. With this all of it is some tens of MB at the very most."""


class RecentJobs:
    """Headers and lanes are values that never change."""

    def __init__(self, most: int = MOST) -> None:
        self._jobs: Recent[Job] = Recent(most, LARGEST)
        self._lanes: Recent[Lane] = Recent(most, LARGEST)

    def job(self, job_id: str, text: str, workflow: Workflow, lanes: dict[str, Lane]) -> Job:
        """The job of a header's row, with these lanes."""
        known = self._jobs.get(job_id, text)
        if known is not None:
            # Not by value where they are the very same, as nearly always: lanes come from here too.
            same = known.workflow is workflow and known.lanes == lanes
            return known if same else evolve(known, {"workflow": workflow, "lanes": lanes})
        job = job_from_text(job_id, text, workflow, lanes)
        self.keep_job(job, text)
        return job

    def lane(self, job_id: str, lane_id: str, text: str) -> Lane:
        """The lane of a row."""
        found = self._lanes.get((job_id, lane_id), text)
        if found is None:
            found = lane_from_text(lane_id, text)
            self.keep_lane(job_id, found, text)
        return found

    def keep_job(self, job: Job, text: str) -> None:
        """`text` is what was made of the header. Its lanes are kept with it only where they are few and kept here too, as large ones
        are not."""
        small = len(job.lanes) <= FEW and all(self._lanes.holds((job.id, key), lane) for key, lane in job.lanes.items())
        self._jobs.keep(job.id, text, job if small else evolve(job, {"lanes": {}}))

    def keep_lane(self, job_id: str, lane: Lane, text: str) -> None:
        """`text` is what was made of the lane."""
        self._lanes.keep((job_id, lane.id), text, lane)
