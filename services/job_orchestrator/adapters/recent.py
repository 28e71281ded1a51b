"""Jobs and branches that this process has lately written or read: what a row still says is not decoded again."""

from __future__ import annotations

from services.job_orchestrator.adapters.codec import branch_from_text, job_from_text
from services.job_orchestrator.core.job import Branch, Job, evolve
from services.job_orchestrator.core.workflow import Workflow
from shared.database.parse_cache import Recent

MOST = 4096
"""Headers, and as many branches."""
FEW = 2
"""Branches of a job of one file, or of none."""
LARGEST = 2000
"""Characters of a text. With this all of it is some tens of MB at the very most."""


class RecentJobs:
    """Headers and branches are values that never change."""

    def __init__(self, most: int = MOST) -> None:
        self._jobs: Recent[Job] = Recent(most, LARGEST)
        self._branches: Recent[Branch] = Recent(most, LARGEST)

    def job(self, job_id: str, text: str, workflow: Workflow, branches: dict[str, Branch]) -> Job:
        """The job of a header's row, with these branches."""
        known = self._jobs.get(job_id, text)
        if known is not None:
            # Not by value where they are the very same, as nearly always: branches come from here too.
            same = known.workflow is workflow and known.branches == branches
            return known if same else evolve(known, {"workflow": workflow, "branches": branches})
        job = job_from_text(job_id, text, workflow, branches)
        self.keep_job(job, text)
        return job

    def branch(self, job_id: str, branch_id: str, text: str) -> Branch:
        """The branch of a row."""
        found = self._branches.get((job_id, branch_id), text)
        if found is None:
            found = branch_from_text(branch_id, text)
            self.keep_branch(job_id, found, text)
        return found

    def keep_job(self, job: Job, text: str) -> None:
        """`text` is what was made of the header. Its branches are kept with it only where they are few and kept here too, as large ones
        are not."""
        small = len(job.branches) <= FEW and all(
            self._branches.holds((job.id, key), branch) for key, branch in job.branches.items()
        )
        self._jobs.keep(job.id, text, job if small else evolve(job, {"branches": {}}))

    def keep_branch(self, job_id: str, branch: Branch, text: str) -> None:
        """`text` is what was made of the branch."""
        self._branches.keep((job_id, branch.id), text, branch)
