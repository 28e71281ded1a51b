"""The facts that a condition sees: the file, its job, and the results of earlier steps."""

from __future__ import annotations

from typing import Any

from services.job_orchestrator.core.job import Branch, Job


def facts(job: Job, branch: Branch) -> dict[str, Any]:
    """The facts by name (`condition.NAMES`), as plain values. `file` is None for the job's own branch."""
    file = branch.file
    kind = {"type": file.content_type, "name": file.file_name, "size": file.size, "metadata": file.metadata} if file else None
    return {
        "file": kind, "tag": branch.tag, "score": branch.score, "metadata": job.request.metadata, "results": branch.results,
        "job": {
            "files": job.total, "done": job.done, "failed": job.failed + job.invalid, "priority": job.request.priority,
            "tenant": job.owner.tenant_id, "retries": job.retries,
        },
    }  # fmt: skip
