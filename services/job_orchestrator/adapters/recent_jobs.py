"""Jobs and branches that this process wrote or read recently: a row whose text is unchanged is not decoded again.

The text decides, so a row that another replica wrote, or that a rollback restored, is decoded.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

from services.job_orchestrator.adapters.codec import branch_from_text, job_from_text
from services.job_orchestrator.core.job import Branch, Job, evolve
from services.job_orchestrator.core.workflow import Workflow

MOST = 4096
"""Jobs kept, and as many branches."""
FEW = 2
"""Branches of a job that is kept with its branches."""
LARGEST = 2000
"""Characters of a text that is kept. Longer ones are decoded each time, so the memory has a bound of some tens of MB."""
V = TypeVar("V")


class _Recent(Generic[V]):
    """Key → the latest text and its value, for `most` keys. Values are immutable."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._kept: dict[Hashable, tuple[str, V]] = {}

    def get(self, key: Hashable, text: str) -> V | None:
        known = self._kept.get(key)
        return known[1] if known is not None and known[0] == text else None

    def holds(self, key: Hashable, value: V) -> bool:
        known = self._kept.get(key)
        return known is not None and known[1] is value

    def keep(self, key: Hashable, text: str, value: V) -> None:
        with self._lock:
            self._kept.pop(key, None)
            if len(text) <= LARGEST:
                self._kept[key] = text, value
            if len(self._kept) > self.most:
                del self._kept[next(iter(self._kept))]


class RecentJobs:
    """Decodes rows of jobs and branches, unless the same text was decoded or written recently."""

    def __init__(self, most: int = MOST) -> None:
        self._jobs: _Recent[Job] = _Recent(most)
        self._branches: _Recent[Branch] = _Recent(most)

    def job(self, job_id: str, text: str, workflow: Workflow, branches: dict[str, Branch]) -> Job:
        """The job of a row's `text`, with these `branches`."""
        known = self._jobs.get(job_id, text)
        if known is not None:
            same = known.workflow is workflow and known.branches == branches
            return known if same else evolve(known, {"workflow": workflow, "branches": branches})
        job = job_from_text(job_id, text, workflow, branches)
        self.keep_job(job, text)
        return job

    def branch(self, job_id: str, branch_id: str, text: str) -> Branch:
        """The branch of a row's `text`."""
        found = self._branches.get((job_id, branch_id), text)
        if found is None:
            found = branch_from_text(branch_id, text)
            self.keep_branch(job_id, found, text)
        return found

    def keep_job(self, job: Job, text: str) -> None:
        """Keep a job, whose row has `text`. Its branches are kept with it only where they are few and small."""
        small = len(job.branches) <= FEW and all(
            self._branches.holds((job.id, key), branch) for key, branch in job.branches.items()
        )
        self._jobs.keep(job.id, text, job if small else evolve(job, {"branches": {}}))

    def keep_branch(self, job_id: str, branch: Branch, text: str) -> None:
        """Keep a branch, whose row has `text`."""
        self._branches.keep((job_id, branch.id), text, branch)
