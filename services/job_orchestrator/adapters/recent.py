"""What this process has lately written or read, by the very text of the row: what a row still says is not decoded again."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Any

from services.job_orchestrator.adapters.codec import job_from_text, lane_from_text
from services.job_orchestrator.core.job import Job, Lane, evolve
from services.job_orchestrator.core.workflow import Workflow

MOST = 4096
"""Headers, and as many lanes."""
LARGEST = 2000
"""Characters of a text; longer ones are not kept. With this all of it is some tens of MB at the very most."""


class Recent:
    """Headers and lanes are values that never change, so one that was written may be handed out again, as long as its row holds
    the text that was made of it. What another replica wrote, or a transaction did not, has another text."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._jobs: dict[Hashable, tuple[str, Any]] = {}
        self._lanes: dict[Hashable, tuple[str, Any]] = {}

    def job(self, job_id: str, text: str, workflow: Workflow, lanes: dict[str, Lane]) -> Job:
        """The job of a header's row, with these lanes."""
        known = self._jobs.get(job_id)
        if known is not None and known[0] == text:
            header: Job = known[1]
            return evolve(header, {"workflow": workflow, "lanes": lanes})
        job = job_from_text(job_id, text, workflow, lanes)
        self.keep_job(job, text)
        return job

    def lane(self, job_id: str, lane_id: str, text: str) -> Lane:
        """The lane of a row."""
        known = self._lanes.get((job_id, lane_id))
        if known is not None and known[0] == text:
            found: Lane = known[1]
            return found
        lane = lane_from_text(lane_id, text)
        self.keep_lane(job_id, lane, text)
        return lane

    def keep_job(self, job: Job, text: str) -> None:
        """`text` is what was made of the header; its lanes are not kept with it."""
        self._keep(self._jobs, job.id, (text, evolve(job, {"lanes": {}})))

    def keep_lane(self, job_id: str, lane: Lane, text: str) -> None:
        """`text` is what was made of the lane."""
        self._keep(self._lanes, (job_id, lane.id), (text, lane))

    def _keep(self, kept: dict[Hashable, tuple[str, Any]], key: Hashable, value: tuple[str, Any]) -> None:
        with self._lock:
            kept.pop(key, None)
            if len(value[0]) <= LARGEST:
                kept[key] = value
            if len(kept) > self.most:
                del kept[next(iter(kept))]
