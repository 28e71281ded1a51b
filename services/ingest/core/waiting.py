"""The reason why a job waits: one code with its facts, from what the read model knows. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contracts import FileStatus, JobStage


def why(job: dict[str, Any], files: Sequence[dict[str, Any]], now: float) -> dict[str, Any] | None:
    """`{code, message, …facts}` for a job that has not ended, else None. `now` is in Unix seconds.

    Codes: `retry_due` (with `at`), `running` (with `workers`), `queued` (dispatched, no worker has reported), `results_pending`
    (the job has ended at `stage`; only `file_ends_read` of `file_ends` ends of its files are read so far).
    """
    if JobStage(job["stage"]).terminal:
        return None
    if job.get("ending"):
        return _ending(job)
    retry = job.get("retry")
    if retry and retry.get("retry_at") and retry["retry_at"] > now:
        reason = (
            f"step {retry['step']} failed ({retry['code']}: {retry['message']}); next attempt in {retry['retry_at'] - now:.0f} s"
        )
        facts = {k: retry[k] for k in ("step", "file_id", "attempt") if k in retry}
        return {**facts, "code": "retry_due", "error_code": retry["code"], "at": retry["retry_at"], "message": reason}
    open_files = [f for f in files if not FileStatus(f["status"]).terminal]
    running = [f for f in open_files if f.get("worker")]
    if running:
        workers = sorted({f["worker"] for f in running})
        message = f"{len(running)} of {len(open_files)} open files are running on {', '.join(workers)}"
        return {"code": "running", "workers": workers, "message": message}
    step = job.get("step") or "its first step"
    return {
        "code": "queued",
        "step": job.get("step"),
        "message": f"released to workers for {step}; none has reported on it yet",
    }


def _ending(job: dict[str, Any]) -> dict[str, Any]:
    ending = job["ending"]
    stage, expected, read = ending.get("stage", job["stage"]), ending.get("file_ends"), job["file_ends_read"]
    missing = "its last event is" if expected is None else f"{expected - read} of {expected} ends of its files are"
    facts = {"stage": stage, "file_ends": expected, "file_ends_read": read}
    return {"code": "results_pending", **facts, "message": f"the job is {stage}; {missing} on the way here"}
