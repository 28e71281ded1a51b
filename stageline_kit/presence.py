"""What a worker says about itself every ten seconds."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from itertools import islice

from contracts import HeldTask, StageTask
from contracts.presence import MOST_HELD


def held_tasks(running: Iterable[tuple[StageTask, datetime]]) -> tuple[HeldTask, ...]:
    """Tasks that run, each with the time since when it does; no more than a sign of life takes."""
    return tuple(
        HeldTask(
            job_id=m.job_id,
            tenant_id=m.tenant_id,
            step=m.step,
            action=m.action,
            file_id=m.file_id,
            attempt=m.attempt,
            since=since,
        )
        for m, since in islice(running, MOST_HELD)
    )
