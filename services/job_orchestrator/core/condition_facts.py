"""What a condition may ask about: the file, its job, and what earlier steps have returned."""

from __future__ import annotations

from typing import Any

from services.job_orchestrator.core.job import Branch, Job


def facts(job: Job, branch: Branch) -> dict[str, Any]:
    """What a condition may ask about, as plain values."""
    file = branch.file
    kind = {"type": file.content_type, "name": file.file_name, "size": file.size, "metadata": file.metadata} if file else None
    return {
        "file": kind, "tag": branch.tag, "score": branch.score, "metadata": job.request.metadata, "results": branch.results,
        "job": {
            "files": job.total, "done": job.done, "failed": job.failed + job.invalid, "priority": job.request.priority,
            "tenant": job.owner.tenant_id, "retries": job.retries,
        },
    }  # fmt: skip
