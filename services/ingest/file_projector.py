"""Projects `file.events` into the read model: one function per event type. A projection changes records of the batch in memory."""

from __future__ import annotations

from typing import Any

from contracts import FileAddToJob, FileCategoryCreate, FileDone, FileErased, FileFailed
from contracts.alfred import AlfredEvent
from contracts.file_events import (
    RECYCLE_BIN,
    FileMove,
    FileMoveToPending,
    FileMoveToRecycleBin,
    FileRemoveTag,
    FileUpdate,
)
from services.ingest.adapters.store.record_batch import RecordBatch
from services.ingest.core import file_view
from services.ingest.core.job_end import ends_file
from services.ingest.core.record_keys import record_id
from shared.processing.records import Inbound

Record = dict[str, Any]


def json_of(item: Inbound) -> str:
    """The event as it came, as text."""
    return item.value.decode("utf-8", "replace")


def file_listed(batch: RecordBatch, event: FileAddToJob, item: Inbound) -> None:
    """The job is found by the file's name, in lower case."""
    file_changed(batch, event, item, f"file:{event.event.file_name.lower()}" if event.event.file_name else None)


def file_tagged(batch: RecordBatch, event: FileCategoryCreate, item: Inbound) -> None:
    """The job is found by the file's tag."""
    file_changed(batch, event, item, f"tag:{event.event.description}")


def file_failed(batch: RecordBatch, event: FileFailed, item: Inbound) -> None:
    """The job is found by the error's code."""
    file_changed(batch, event, item, f"error:{event.event.code}" if event.event.code else None)


def file_done(batch: RecordBatch, event: FileDone, item: Inbound) -> None:
    """The file's text, if it has one, waits for the full-text index."""
    record = file_changed(batch, event, item)
    if record is not None:
        batch.index(record)


def file_untagged(batch: RecordBatch, event: FileRemoveTag, item: Inbound) -> None:
    """The job is not found by the tag any more, unless another file has it."""
    record = file_changed(batch, event, item)
    if record is not None and record["job_id"]:
        batch.lose_terms(record["job_id"])


def file_moved(batch: RecordBatch, event: FileMove, item: Inbound) -> None:
    """The file is in another directory: in another job, in the recycle bin, or back from there."""
    f = event.event
    if f.previous_job_id and f.job_id in batch.erased:
        # The job that got the file was erased with it, and this event is late.
        batch.erasures.append(
            FileErased(
                event_id=event.event_id, job_id=f.previous_job_id, file_id=f.file_id, tenant_id=event.tenant,
                occurred_at=event.time,
            )
        )  # fmt: skip
        return
    if f.previous_job_id and f.job_id:
        batch.leave_job(f.file_id, event.tenant, f.previous_job_id, f.job_id)
    record = file_changed(batch, event, item)
    if record is not None and f.previous_file_directory == RECYCLE_BIN:
        batch.restore(record)
        batch.index(record)


def file_pending(batch: RecordBatch, event: FileMoveToPending, item: Inbound) -> None:
    """Nothing is known of the file until it is processed, and no search finds it by its text."""
    record = file_changed(batch, event, item)
    if record is not None:
        batch.leave_search(record["id"])


def file_recycled(batch: RecordBatch, event: FileMoveToRecycleBin, item: Inbound) -> None:
    """The file waits for its erasure."""
    record = file_changed(batch, event, item)
    if record is not None:
        batch.recycle(record)


def file_changed(batch: RecordBatch, event: AlfredEvent[Any], item: Inbound, term: str | None = None) -> Record | None:
    """Change the file's record and append to its job's history; count the file's end.

    None for a file of an erased job, or another tenant's, and for an event of a job that the file has left.
    """
    file_id, job_id = record_id(event), event.event.job_id
    if job_id in batch.erased or (job_id, file_id) in batch.erased_files:
        return None
    if job_id:
        batch.history.append((job_id, json_of(item)))
        if term is not None:
            batch.add_terms(job_id, [term])
        if ends_file(event):
            batch.count_file_end(job_id)
    before = batch.file(file_id, event.tenant, event.time, job_id)
    if before is None or (job_id != before["job_id"] and job_id and job_id == before.get("previous_job_id")):
        return None
    former = batch.former_file(before, event)
    if former is not None:
        batch.save_former(former["job_id"] or job_id, file_view.apply_event(former, event))
        return None
    record = file_view.apply_event(before, event)
    batch.files[file_id] = record
    # Of a remote file that has a reservation: its size is known now, or never will be.
    if isinstance(event, FileUpdate) or ends_file(event):
        batch.stored_sizes[file_id] = record["file_size"]
    return record
