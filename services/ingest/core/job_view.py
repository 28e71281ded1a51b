"""A job as the gateway shows it: Alfred's record, made from job events, one function per event type. Pure: (record, event) → record."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from contracts import JobStage, SessionClosed
from contracts.job_events import (
    JobCreate,
    JobEvent,
    JobExceededRetries,
    JobFailed,
    JobFinished,
    JobInvalid,
    JobRetry,
    JobStageUpdate,
    JobStart,
)
from contracts.work import MAX_PART

Record = dict[str, Any]


@lru_cache(maxsize=10_000)
def text(at: datetime) -> str:
    """A time as answers show it: ISO 8601 in UTC with milliseconds."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def new_job(job_id: str, tenant: str, at: datetime) -> Record:
    """An empty record with every field of the vendor's (reference/vendor-apis.md §1.6)."""
    return {
        "id": job_id, "creation_date": text(at), "update_date": text(at), "has_job_request_info": False,
        "job_request_date": None, "start_date": None, "finish_date": None, "company_id": tenant, "bulk_id": None,
        "deferred_session_id": None, "user_name": "", "channel": "library", "source": None, "container": None,
        "remote_file_name": None, "remote_file_names": None, "merge": False, "decompose": False,
        "propagate_metadata": None, "parent_file_prefix": None, "decomposed_page_rotation": None, "metadata": None,
        "file_count": 0, "file_sources_count": 0, "metadata_objects_count": 0, "finished_files": 0, "retries": 0,
        "exceeded_retries": False, "file_urls": [], "error_messages": [], "stage": JobStage.QUEUED.value,
        "priority": "normal", "input_source_type": 0, "email_from": None, "email_subject": None, "email_body": None,
        "workflow": None, "step": None, "sequence": 0, "retry": None, "stage_since": at.timestamp(), "paused": None,
        "created_at": at.timestamp(),
        "job_key": None, "parent_job_id": None, "rerun_of": None, "start_at": None, "outputs": [], "file_ends": None,
        "file_ends_read": 0, "ending": None, "results": {}, "uploaded_ids": [],
    }  # fmt: skip


def of_session(record: Record, event: SessionClosed) -> Record:
    """The record with what only the closing of the session says: the job request."""
    job = event.job
    return {
        **record, "deferred_session_id": event.session_id, "user_name": event.owner.user_name, "channel": job.channel,
        "has_job_request_info": True, "job_request_date": text(event.occurred_at), "merge": job.merge,
        "decompose": job.decompose, "propagate_metadata": job.propagate_metadata, "metadata": job.metadata,
        "parent_file_prefix": job.parent_file_prefix, "decomposed_page_rotation": job.page_rotation,
        "priority": job.priority, "file_count": event.file_count or len(event.files),
        "file_sources_count": event.file_count or len(event.files), "workflow": record["workflow"] or job.workflow,
        "job_key": job.job_key,
        "uploaded_ids": record.get("uploaded_ids") or [f.file_id for f in event.files if f.url is None][:MAX_PART],
    }  # fmt: skip


def apply_event(record: Record, event: JobEvent) -> Record:
    """The record after `event`. An event that is not newer than the record changes nothing."""
    fields = event.event
    if fields.sequence is not None and fields.sequence <= record["sequence"]:
        return record
    new = {**record, "sequence": fields.sequence or record["sequence"], "update_date": text(fields.update_date)}
    return new | _CHANGES[type(event)](record, event)


def _created(record: Record, event: JobCreate) -> Record:
    f = event.event
    return {
        "creation_date": text(f.creation_date), "user_name": f.user_name, "merge": f.merge, "metadata": f.metadata,
        "file_count": f.file_count, "file_sources_count": f.file_count, "file_urls": list(f.file_urls),
        "workflow": f.workflow, "deferred_session_id": f.deferred_session_id, "input_source_type": 1 if f.file_urls else 0,
        "job_key": f.job_key, "priority": f.priority or "normal", "parent_job_id": f.parent_job_id, "rerun_of": f.rerun_of,
        "start_at": f.start_at, "uploaded_ids": list(f.uploaded_ids or ()),
    }  # fmt: skip


def _started(record: Record, event: JobStart) -> Record:
    return {"stage": JobStage.STARTED.value, "start_date": text(event.time), "stage_since": event.event_time}


def _moved(record: Record, event: JobStageUpdate) -> Record:
    f = event.event
    found: Record = {"stage": f.stage.value, "step": f.step}
    if f.stage.value != record["stage"]:
        found["stage_since"] = event.event_time
    if f.verb is None:
        found["retry"] = None
    elif f.verb in ("pause", "resume"):
        found["paused"] = {"by": f.by, "reason": f.reason, "since": event.event_time} if f.verb == "pause" else None
    elif f.verb == "retry":
        found["retry"] = None
    if f.stage.terminal:
        found["paused"] = None
    return found


def _finished(record: Record, event: JobFinished) -> Record:
    f = event.event
    return {
        "error_messages": list(f.error_messages), "finish_date": text(event.time), "retry": None, "finished_files": f.finished_files or 0,
        "file_ends": f.file_ends, "outputs": [o.model_dump(exclude_none=True) for o in f.outputs or ()],
        "results": f.results or {},
    }  # fmt: skip


def _retried(record: Record, event: JobRetry) -> Record:
    f = event.event
    why = {"step": f.step, "file_id": f.file_id, "attempt": f.attempt, "code": f.code, "message": f.message}
    return {**_attempts(record, event), "retry": {**why, "retry_at": f.retry_at}}


def _failed(record: Record, event: JobFailed | JobInvalid) -> Record:
    f = event.event
    return {
        **_attempts(record, event), "error_messages": list(f.error_messages), "finish_date": text(event.time), "retry": None,
        "file_ends": f.file_ends, "results": f.results or {},
    }  # fmt: skip


def _attempts(record: Record, event: JobRetry | JobExceededRetries | JobFailed | JobInvalid) -> Record:
    return {"retries": event.event.retries, "exceeded_retries": event.event.exceeded_retries}


_CHANGES: Mapping[type, Callable[[Record, Any], Record]] = {
    JobCreate: _created, JobStart: _started, JobStageUpdate: _moved, JobFinished: _finished, JobRetry: _retried,
    JobExceededRetries: _attempts, JobFailed: _failed, JobInvalid: _failed,
}  # fmt: skip
"""Event type → function that returns the changed fields."""


def terms(record: Record) -> list[str]:
    """Search terms of a job: its key, its lineage, and the plain values on the first level of its metadata (at most 50)."""
    found = [f"{name}:{record[name]}" for name in ("job_key", "parent_job_id", "rerun_of") if record.get(name)]
    metadata = record.get("metadata")
    if isinstance(metadata, dict):
        plain = ((k, v) for k, v in metadata.items() if isinstance(v, (str, int, float, bool)))
        found += [meta_term(k, v) for k, v in list(plain)[:50]]
    return found


def meta_term(key: str, value: Any) -> str:
    """The search term of one metadata value; numbers and booleans as in JSON."""
    shown = value if isinstance(value, str) else json.dumps(value)
    return f"metadata.{key[:100]}={shown[:200]}"
