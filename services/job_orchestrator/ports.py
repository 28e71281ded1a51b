"""What the orchestrator's shell needs from a store, inside one transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from services.job_orchestrator.core.decide import LaneDue
from services.job_orchestrator.core.job import Job
from services.job_orchestrator.core.workflow import Workflow


class JobStore(Protocol):
    """Jobs and lanes within the running transaction."""

    def load(self, wanted: Mapping[str, Collection[str]]) -> dict[str, Job]:
        """Jobs by id, each with the named lanes and its own (`""`), as far as they exist."""
        ...

    def with_all_lanes(self, job: Job) -> Job:
        """The same job with every lane; lanes already on it win over the stored ones."""
        ...

    def save(self, changes: Iterable[tuple[Job, Collection[str], str | None]]) -> None:
        """Write headers and the named lanes; the third value is the trace that timers of the job descend from."""
        ...

    def due(self, now: float, limit: int) -> Sequence[tuple[LaneDue, str | None]]:
        """Timers that are due, earliest first, each with its job's trace."""
        ...

    def clear_due(self, void: Iterable[LaneDue], now: float) -> None:
        """Forget timers that the core refused, unless they were set anew to a time after `now` (Unix seconds)."""
        ...

    def has_changed(self) -> bool:
        """True when `take_changed` would hand out something."""
        ...

    def take_changed(self, limit: int) -> Sequence[str]:
        """Ids of jobs that were saved since they were last taken; each is handed out once."""
        ...

    def workflow(self, name: str, version: int | None) -> Workflow | None:
        """A published version, or the newest when `version` is None."""
        ...
