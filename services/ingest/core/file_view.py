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
    FileFailed,
    FilePropertyCreate,
    FileStatusUpdate,
    FileUpdate,
)
from services.ingest.core.job_view import text

Record = dict[str, Any]


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
        "properties": {}, "text_blob": None, "result_blob": None, "index_blob": None, "outputs": [],
    }  # fmt: skip


def of_reference(record: Record, file: FileRef) -> Record:
    """The record with what a file reference says."""
    return {
        **record, "file_name": file.file_name, "file_name_without_extension": stem(file.file_name),
        "blob_name": file.blob_name, "blob_url": file.blob_url, "md5_hash": file.md5, "content_type": file.content_type,
        "file_size": file.size, "metadata": file.metadata,
    }  # fmt: skip


def apply_event(record: Record, event: AlfredEvent[Any]) -> Record:
    """The record after `event`. Types that concern no field of the record change its update date alone."""
    new = {**record, "update_date": text(event.time), "job_id": event.event.job_id or record["job_id"]}
    change = _CHANGES.get(type(event))
    return new | change(new, event.event) if change else new


def _added(record: Record, f: Any) -> Record:
    known = {"file_name": f.file_name, "blob_name": f.blob_name, "md5_hash": f.md5_hash, "content_type": f.content_type}
    known |= {"file_size": f.file_size, "metadata": f.metadata}
    found = {k: v for k, v in known.items() if v is not None}
    return found | ({"file_name_without_extension": stem(f.file_name)} if f.file_name else {})


def _status(record: Record, f: Any) -> Record:
    progress = {"done": f.progress_done, "total": f.progress_total} if f.progress_done is not None else None
    return {"status": f.file_status.value, "step": f.step, "worker": f.worker, "progress": progress}


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


def _property(record: Record, f: Any) -> Record:
    found: Record = {"properties": {**record["properties"], f.name: f.value}}
    if f.name == "page_count" and f.value.isdigit():
        found["page_count"] = int(f.value)
    return found


def _done(record: Record, f: Any) -> Record:
    return {
        "status": f.file_status.value, "text_blob": f.text_blob, "result_blob": f.result_blob, "index_blob": f.index_blob,
        "outputs": [o.model_dump(exclude_none=True) for o in f.outputs or ()], "worker": None, "step": None,
        "progress": None,
    }  # fmt: skip


def _failed(record: Record, f: Any) -> Record:
    return {
        "status": f.file_status.value,
        "step": f.step,
        "code": f.code,
        "message": f.message,
        "worker": None,
        "progress": None,
    }


_CHANGES: Mapping[type, Callable[[Record, Any], Record]] = {
    FileAddToJob: _added, FileStatusUpdate: _status, FileUpdate: _updated, FileCategoryCreate: _tagged,
    FileExtractedDataCreate: _extracted, FilePropertyCreate: _property, FileDone: _done, FileFailed: _failed,
}  # fmt: skip
"""Event type → function that returns the changed fields."""
