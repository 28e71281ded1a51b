"""What the command line may read of the orchestrator: stored jobs, and recorded histories replayed. Read only."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, text

from services.job_orchestrator.adapters.catalog import Catalog
from services.job_orchestrator.adapters.sql_store import SqlJobStore
from services.job_orchestrator.core.job import JOB_BRANCH, Job
from services.job_orchestrator.core.replay import Recorded, differences, replay
from services.job_orchestrator.core.workflow import Workflow

__all__ = ["Job", "Recorded", "Workflow", "compared", "differences", "replay", "stored_jobs", "unpublished_states"]
PAGE = 500


def stored_jobs(connection: Connection, only_open: bool) -> list[Job]:
    """Every job in the orchestrator's store; with `only_open` those that have not ended, each with all of its branches."""
    catalog = Catalog()
    catalog.load(connection)
    store = SqlJobStore(connection, catalog)
    ids = list(connection.execute(text("SELECT id FROM job")).scalars())
    found: list[Job] = []
    for start in range(0, len(ids), PAGE):
        page = store.load({i: {JOB_BRANCH} for i in ids[start : start + PAGE]}).values()
        found += [store.with_all_branches(j) if only_open else j for j in page if not (only_open and j.ended)]
    return found


def unpublished_states(connection: Connection) -> set[str]:
    """Ids of the jobs whose last change is still to be published on `job.state`."""
    return set(connection.execute(text("SELECT job_id FROM job_changed")).scalars())


def compared(job: Job) -> dict[str, Any]:
    """The facts of a job that its events and the read model repeat, by the read model's names."""
    return {
        "stage": job.stage.value, "sequence": job.sequence, "file_count": job.total, "workflow": job.workflow.ref, "retries": job.retries,
    }  # fmt: skip
