"""A file as the gateway shows it: Alfred's record, made from session and file events. Pure: (record, event) → record."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from contracts import FileRef, FileStatus
from contracts.alfred import AlfredEvent
from contracts.file_events import (
    FileAddToJob,
    FileCategoryCreate,
    FileDone,
    FileExtractedDataCreate,
    FileExtractedDataDelete,
    FileFailed,
    FileMove,
    FileMoveToPending,
    FileMoveToRecycleBin,
    FilePropertyCreate,
    FilePropertyDelete,
    FileRemoveTag,
    FileStatusUpdate,
    FileUpdate,
    job_directory,
)
from services.ingest.core.job_view import text

Record = dict[str, Any]


_NOT_DONE = (FileStatus.FAILED, FileStatus.INVALID, FileStatus.CANCELLED)
_OF_STEPS = (
    "tag_id", "tag_name", "classification_score", "page_count", "step", "worker", "progress", "code", "message", "fields", "properties",
    "text_blob", "result_blob", "index_blob", "outputs",
)  # fmt: skip
"""Fields that the steps of a job fill."""
_NO_ERROR: Record = {"code": None, "message": None}
"""A file that runs again, or is done, has no error left of an earlier run."""


def stem(name: str) -> str:
    """File name without its extension."""
    return name.rpartition(".")[0] or name


def new_file(file_id: str, tenant: str, at: datetime) -> Record:
    """An empty record with every field of the vendor's (reference/vendor-apis.md §1.6), then ours."""
    return {
        "id": file_id, "creation_date": text(at), "update_date": text(at), "file_name": "",
        "file_name_without_extension": "", "blob_name": None, "blob_url": None, "user_name": None, "md5_hash": None,
        "content_type": None, "channel": "library", "should_be_classified": True, "classifier": "rules",
        "classification_score": None, "status": FileStatus.UPLOADED.value, "input_type": 0, "is_duplicate": False,
        "is_duplicate_by_values": False, "duplicate_origin_id": None, "tag_id": None, "tag_name": None,
        "is_parent": False, "is_children": False, "parent_id": None, "deferred_session_id": None, "company_id": tenant,
        "file_size": None, "proposed_tag_id": None, "proposed_tag_variance": None,
        "classification_score_above_deviation": None, "confirmed_tag_id": None, "confirmed_by": None,
        "manual_classification": False, "metadata": None, "page_count": None, "page_number": None,
        "job_id": None, "step": None, "worker": None, "progress": None, "code": None, "message": None, "fields": None,
        "properties": {}, "text_blob": None, "result_blob": None, "index_blob": None, "outputs": [], "results": {},
        "folder": None, "recycled_at": None, "revision": None,
    }  # fmt: skip


def without_job(record: Record, at: datetime) -> Record:
    """An empty record of the same file, for another job than the record's."""
    kept = ("user_name", "deferred_session_id", "channel")
    return {**new_file(record["id"], record["company_id"], at), **{name: record[name] for name in kept}}


def of_reference(record: Record, file: FileRef) -> Record:
    """The record with what a file reference says."""
    return {
        **record, "file_name": file.file_name, "file_name_without_extension": stem(file.file_name),
        "blob_name": file.blob_name, "blob_url": file.blob_url, "md5_hash": file.md5, "content_type": file.content_type,
        "file_size": file.size, "metadata": file.metadata,
    }  # fmt: skip


def apply_event(record: Record, event: AlfredEvent[Any]) -> Record:
    """The record after `event`. Types that concern no field of the record change its update date alone."""
    job_id = event.event.job_id or record["job_id"]
    new = {**record, "update_date": text(event.time), "job_id": job_id}
    if record["job_id"] not in (None, job_id):
        new |= {"folder": job_directory(job_id), "recycled_at": None, "revision": None}
    if getattr(event.event, "revision", None) is not None:
        new["revision"] = event.event.revision
    change = _CHANGES.get(type(event))
    return new | change(new, event.event) if change else new


def _added(record: Record, f: Any) -> Record:
    known = {"file_name": f.file_name, "blob_name": f.blob_name, "md5_hash": f.md5_hash, "content_type": f.content_type}
    known |= {"file_size": f.file_size, "metadata": f.metadata}
    found = {k: v for k, v in known.items() if v is not None}
    if record.get("folder") != job_directory(f.job_id, pending=True):
        found["folder"] = job_directory(f.job_id)
    return found | ({"file_name_without_extension": stem(f.file_name)} if f.file_name else {})


def _status(record: Record, f: Any) -> Record:
    progress = {"done": f.progress_done, "total": f.progress_total} if f.progress_done is not None else None
    found = {"status": f.file_status.value, "step": f.step, "worker": f.worker, "progress": progress}
    return found if f.file_status in _NOT_DONE else {**found, **_NO_ERROR}


def _updated(record: Record, f: Any) -> Record:
    return {
        "file_name": f.file_name, "file_name_without_extension": f.file_name_without_extension, "blob_name": f.blob_name,
        "blob_url": f.blob_url, "content_type": f.content_type or record["content_type"],
        "file_size": f.file_size if f.file_size is not None else record["file_size"],
        "md5_hash": f.md5_hash or record["md5_hash"],
    }  # fmt: skip


def _tagged(record: Record, f: Any) -> Record:
    return {"tag_id": f.description, "tag_name": f.description, "classification_score": f.confidence}


def _extracted(record: Record, f: Any) -> Record:
    try:
        fields = json.loads(f.content)
    except ValueError:
        fields = {"text": f.content}
    return {"fields": fields}


def _values_gone(record: Record, f: Any) -> Record:
    try:
        gone = json.loads(f.content)
    except ValueError:
        gone = None
    # Content of another author that names no values: all of them are gone.
    left = {k: v for k, v in (record["fields"] or {}).items() if k not in gone} if isinstance(gone, dict) else {}
    return {"fields": left or None}


def _property_gone(record: Record, f: Any) -> Record:
    found: Record = {"properties": {k: v for k, v in record["properties"].items() if k != f.name}}
    return {**found, "page_count": None} if f.name == "page_count" else found


def _untagged(record: Record, f: Any) -> Record:
    return {"tag_id": None, "tag_name": None, "classification_score": None}


def _moved(record: Record, f: Any) -> Record:
    return {"folder": f.new_file_directory, "recycled_at": None}


def _recycled(record: Record, f: Any) -> Record:
    return {"recycled_at": record["update_date"]}


def _pending(record: Record, f: Any) -> Record:
    empty = new_file(record["id"], record["company_id"], datetime.min)
    return {"status": FileStatus.PENDING.value, **{name: empty[name] for name in _OF_STEPS}}


def _property(record: Record, f: Any) -> Record:
    found: Record = {"properties": {**record["properties"], f.name: f.value}}
    if f.name == "page_count" and f.value.isdigit():
        found["page_count"] = int(f.value)
    return found


def _done(record: Record, f: Any) -> Record:
    return {
        "status": f.file_status.value, "text_blob": f.text_blob, "result_blob": f.result_blob, "index_blob": f.index_blob,
        "outputs": [o.model_dump(exclude_none=True) for o in f.outputs or ()], "worker": None, "step": None,
        "progress": None, "results": f.results or {}, **_NO_ERROR,
    }  # fmt: skip


def _failed(record: Record, f: Any) -> Record:
    return {
        "status": f.file_status.value,
        "step": f.step,
        "code": f.code,
        "message": f.message,
        "worker": None,
        "progress": None,
        "results": f.results or {},
    }


_CHANGES: Mapping[type, Callable[[Record, Any], Record]] = {
    FileAddToJob: _added, FileStatusUpdate: _status, FileUpdate: _updated, FileCategoryCreate: _tagged,
    FileExtractedDataCreate: _extracted, FilePropertyCreate: _property, FileDone: _done, FileFailed: _failed,
    FileExtractedDataDelete: _values_gone, FilePropertyDelete: _property_gone, FileRemoveTag: _untagged, FileMove: _moved,
    FileMoveToRecycleBin: _recycled, FileMoveToPending: _pending,
}  # fmt: skip
"""Event type → function that returns the changed fields."""
