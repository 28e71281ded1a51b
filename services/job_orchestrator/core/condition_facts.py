"""What a condition may ask about: the file, its job, and what earlier steps have returned."""

from __future__ import annotations

from typing import Any

from services.job_orchestrator.core.job import Job, Lane


def facts(job: Job, lane: Lane) -> dict[str, Any]:
    """What a condition may ask about, as plain values."""
    file = lane.file
    kind = {"type": file.content_type, "name": file.file_name, "size": file.size, "metadata": file.metadata} if file else None
    return {
        "file": kind, "tag": lane.tag, "score": lane.score, "metadata": job.request.metadata, "results": lane.results,
        "job": {
            "files": job.total, "done": job.done, "failed": job.failed + job.invalid, "priority": job.request.priority,
            "tenant": job.owner.tenant_id, "retries": job.retries,
        },
    }  # fmt: skip
