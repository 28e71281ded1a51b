"""Why a job waits, in one shape for every answer: what the orchestrator said, and what the gateway alone knows. Pure.

An explanation is `{code, message, facts, changes_at, as_of}`. The orchestrator knows branches, limits and workers; the gateway knows how
much of the events it has read, so it adds `ended`, `results_pending`, `arriving` and `orchestrator_silent`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from contracts import JobStage
from services.ingest.core.job_view import text
from services.ingest.core.spans import span

Record = dict[str, Any]


def known_here(job: Record) -> Record | None:
    """The explanation of a job whose end was read, wholly (`ended`) or in part (`results_pending`). None for any other job."""
    if JobStage(job["stage"]).terminal:
        errors = f": {job['error_messages'][-1]}" if job["error_messages"] else ""
        return _explanation("ended", f"the job is {job['stage']}{errors}", {"stage": job["stage"]}, job["update_date"])
    if job.get("ending"):
        ending = job["ending"]
        return _pending(job, ending.get("stage", job["stage"]), ending.get("file_ends"), job["update_date"])
    return None


def answered(job: Record, answer: Record) -> Record:
    """The explanation that follows from the orchestrator's answer about a job whose end was not read."""
    if not answer["ok"]:
        return _unknown(job, answer.get("reason") or "refused", answer.get("message"))
    why: Record = answer["why"]
    if why["code"] == "ended":
        return _pending(job, why["facts"]["stage"], None, why["as_of"])
    return why


def silent(job: Record, last: Record | None, waited_s: float, now: float) -> Record:
    """The explanation while the orchestrator does not answer: its `last` one with its age or, without one, what the events say.

    `now` is in Unix seconds.
    """
    known = last or _by_events(job)
    age = max(0.0, now - datetime.fromisoformat(known["as_of"]).timestamp())
    source = "its last answer" if last else "the job's last event"
    message = f"the orchestrator has not answered for {span(waited_s)}; {source}, {span(age)} ago: {known['message']}"
    facts = {"last_known": known, "age_s": round(age, 1)}
    return {**_explanation("orchestrator_silent", message, facts, known["as_of"]), "changes_at": known["changes_at"]}


def _pending(job: Record, stage: str, expected: int | None, as_of: str) -> Record:
    read = job["file_ends_read"]
    missing = "its last event is" if expected is None else f"{expected - read} of {expected} ends of its files are"
    facts = {"stage": stage, "file_ends": expected, "file_ends_read": read}
    return _explanation("results_pending", f"the job is {stage}; {missing} on the way here", facts, as_of)


def _unknown(job: Record, reason: str, message: str | None) -> Record:
    if reason == "unknown_job" and not job["sequence"]:
        return _explanation("arriving", "the job is on the way to the orchestrator", {}, job["update_date"])
    said = message or reason
    return _explanation(reason, f"the orchestrator cannot say: {said}", {}, job["update_date"])


def _by_events(job: Record) -> Record:
    """What the last event says: an attempt that failed, or the step."""
    retry = job.get("retry")
    if retry:
        facts = {k: retry[k] for k in ("step", "file_id", "attempt", "code") if retry.get(k) is not None}
        at = retry.get("retry_at")
        due = {"changes_at": text(datetime.fromtimestamp(at, UTC))} if at else {}
        message = f"attempt {retry['attempt']} of {retry['step']} failed ({retry['code']}: {retry['message']})"
        return {**_explanation("retry_due", message, facts, job["update_date"]), **due}
    where = f" at {job['step']}" if job.get("step") else ""
    facts = {"stage": job["stage"], "step": job.get("step"), "since": job.get("stage_since")}
    return _explanation("last_event", f"the job was {job['stage']}{where}", facts, job["update_date"])


def _explanation(code: str, message: str, facts: Record, as_of: str) -> Record:
    return {"code": code, "message": message, "facts": facts, "changes_at": None, "as_of": as_of}
