"""Replays the jobs that have not ended: what would a new workflow version, or this code, do to them?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cli.inspect.history import access, histories, store_of
from services.job_orchestrator.inspect import Workflow, differences, replay, stored_jobs


async def check(workflow: Workflow | None, data_dir: Path) -> dict[str, Any]:
    """`{checked, affected: [{job_id, workflow, would}], unknown: [{job_id, workflow, why}]}`.

    Replays the unfinished jobs of `workflow` with it; with None, every unfinished job with its own workflow.
    """
    store = store_of(data_dir, "job_orchestrator")
    try:
        open_ = [
            j
            for j in await store.read(lambda c: stored_jobs(c, only_open=True))
            if workflow is None or j.workflow.name == workflow.name
        ]
    finally:
        await store.close()
    recorded = await histories(access(data_dir), {j.id for j in open_})
    affected, unknown = [], []
    for job in open_:
        entry = {"job_id": job.id, "workflow": job.workflow.ref}
        try:
            same = differences(job, replay(recorded.get(job.id, []), job.workflow))
            if same and workflow is not None:
                unknown.append({**entry, "why": same})
                continue
            would = differences(job, replay(recorded.get(job.id, []), workflow)) if workflow is not None else same
        except (ValueError, KeyError, IndexError) as error:
            unknown.append({**entry, "why": [str(error)]})
            continue
        if would:
            affected.append({**entry, "would": would})
    return {"checked": len(open_), "affected": affected, "unknown": unknown}
