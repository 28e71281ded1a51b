"""The sixteen file events of Alfred (reference/vendor-apis.md §1.3).

In the vendor's shape, only FileAddToJob names the job. `job_id` on the others is our optional addition, so that a consumer
needs no join.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from contracts.alfred import AlfredEvent, AlfredFields
from contracts.loose import Id, Metadata, Text, Timestamp
from contracts.status import FileStatusValue
from contracts.work import Outputs, StepResults


class FileFields(AlfredFields):
    """Fields of all file events. Dates are optional, because the vendor's own SDK leaves them out in places."""

    KIND = "file_event"
    job_id: str | None = None
    creation_date: Timestamp | None = None
    update_date: Timestamp | None = None

    @property
    def subject(self) -> str:
        file_id = getattr(self, "file_id", None) or getattr(self, "file_log_id", None)
        return str(self.job_id or file_id or self.company_id)


class _ByPeople(FileFields):
    """Fields of events that also follow from what people do to a file."""

    revision: int | None = None
    """Ours: number of the change among those that people made to the file in its job; 1, 2, 3 and so on. None: a step made it."""
    by: Text | None = None
    """Ours: the user who made the change."""
    reason: Text | None = None
    """Ours: the reason that the user gave."""


class FileAddToJobFields(FileFields):
    NAME: ClassVar[str] = "file_add_to_job_event"
    file_id: Id
    job_id: Id
    file_name: str | None = None
    file_size: int | None = None
    content_type: str | None = None
    blob_name: str | None = None
    md5_hash: str | None = None
    metadata: Metadata = None


class _Logged(FileFields):
    file_log_id: Id
    file_id: str | None = None
    """Ours: equal to `file_log_id`. No document of the vendor says how the two relate."""


class _Categorised(_Logged):
    description: Text
    confidence: float = Field(ge=0, le=1)


class FileCategoryCreateFields(_Categorised):
    NAME: ClassVar[str] = "file_category_create_event"


class FileCategoryDeleteFields(_Categorised):
    NAME: ClassVar[str] = "file_category_delete_event"


class FileChangeTagFields(FileFields):
    NAME: ClassVar[str] = "file_change_tag_event"
    file_id: Id
    previous_tag_id: str | None = None
    previous_tag_name: str | None = None
    proposed_tag_id: str | None = None
    classification_score: float | None = None
    new_tag_id: str | None = None
    new_tag_name: str | None = None


class _Stored(FileFields):
    file_id: Id
    blob_name: Text
    blob_url: Text


class _Tagged(_Stored):
    tag_id: str | None = None
    tag_name: str | None = None
    file_status: FileStatusValue


class FileDoneFields(_Tagged):
    NAME: ClassVar[str] = "file_done_event"
    result_blob: str | None = None
    """Ours: name of the result package (JSON) in the object store."""
    text_blob: str | None = None
    """Ours: name of the extracted text in the object store."""
    index_blob: str | None = None
    """Ours: name of the text for the full-text index in the object store."""
    outputs: Outputs | None = None
    """Ours: files that steps made from this file."""
    results: StepResults | None = None
    """Ours: what the file's steps returned whose actions are not built in."""


class FileFailedFields(_Tagged):
    """`code`, `message` and `step` are ours, because the vendor's event has no field for the reason."""

    NAME: ClassVar[str] = "file_failed_event"
    classification_score: float | None = None
    classification_status: str | None = None
    code: str | None = None
    message: str | None = None
    attempts: int | None = None
    results: StepResults | None = None
    """Ours: what the file's earlier steps returned; see `FileDone`."""


class _Extracted(_Logged, _ByPeople):
    content: Text
    provider: Text


class FileExtractedDataCreateFields(_Extracted):
    """`content` holds all values of the file as JSON. `provider` is the step, or `user`."""

    NAME: ClassVar[str] = "file_extracted_data_create_event"


class FileExtractedDataDeleteFields(_Extracted):
    """`content` holds the values that are gone, as JSON."""

    NAME: ClassVar[str] = "file_extracted_data_delete_event"


class _Named(_Stored):
    file_name: Text
    file_name_without_extension: Text


RECYCLE_BIN = "recycle_bin"
"""The directory of recycled files."""


def job_directory(job_id: str, pending: bool = False) -> str:
    """The directory of a job's files, or of those that wait to be processed."""
    return f"jobs/{job_id}/pending" if pending else f"jobs/{job_id}"


class _Moved(_Named, _ByPeople):
    pass


class FileMoveFields(_Moved):
    NAME: ClassVar[str] = "file_move_event"
    previous_file_directory: Text
    new_file_directory: Text
    previous_job_id: str | None = None
    """Ours: the job that the file has left. None: it stays in its job."""


class FileMoveToPendingFields(_Moved):
    NAME: ClassVar[str] = "file_move_to_pending_event"


class FileMoveToRecycleBinFields(_Moved):
    NAME: ClassVar[str] = "file_move_to_recycle_bin_event"


class _Property(_Logged):
    name: Text
    value: Text


class FilePropertyCreateFields(_Property):
    NAME: ClassVar[str] = "file_property_create_event"


class FilePropertyDeleteFields(_Property, _ByPeople):
    NAME: ClassVar[str] = "file_property_delete_event"


class FileRemoveTagFields(_ByPeople):
    NAME: ClassVar[str] = "file_remove_tag_event"
    file_id: Id
    tag_being_removed_id: str | None = None
    tag_being_removed_name: str | None = None
    classification_score: float | None = None


class FileStatusUpdateFields(_Tagged):
    NAME: ClassVar[str] = "file_status_update_event"
    manual_classification: bool = False
    classification_score: float | None = None
    classification_status: str | None = None
    progress_done: int | None = None
    """Ours: units of work (pages) that the running step has done."""
    progress_total: int | None = None
    worker: str | None = None
    """Ours: the worker that runs the step."""


class FileUpdateFields(_Named):
    NAME: ClassVar[str] = "file_update_event"
    file_log_id: Id
    content_type: str | None = None
    file_size: int | None = None
    md5_hash: str | None = None
    page_count: int | None = None


class FileAddToJob(AlfredEvent[FileAddToJobFields]):
    TYPE = "stageline.file.add_to_job.v1"


class FileCategoryCreate(AlfredEvent[FileCategoryCreateFields]):
    TYPE = "stageline.file.category_create.v1"


class FileCategoryDelete(AlfredEvent[FileCategoryDeleteFields]):
    TYPE = "stageline.file.category_delete.v1"


class FileChangeTag(AlfredEvent[FileChangeTagFields]):
    TYPE = "stageline.file.change_tag.v1"


class FileDone(AlfredEvent[FileDoneFields]):
    TYPE = "stageline.file.done.v1"
    VERSION = "1.2"


class FileExtractedDataCreate(AlfredEvent[FileExtractedDataCreateFields]):
    TYPE = "stageline.file.extracted_data_create.v1"
    VERSION = "1.1"


class FileExtractedDataDelete(AlfredEvent[FileExtractedDataDeleteFields]):
    TYPE = "stageline.file.extracted_data_delete.v1"
    VERSION = "1.1"


class FileFailed(AlfredEvent[FileFailedFields]):
    TYPE = "stageline.file.failed.v1"
    VERSION = "1.1"


class FileMove(AlfredEvent[FileMoveFields]):
    TYPE = "stageline.file.move.v1"
    VERSION = "1.1"


class FileMoveToPending(AlfredEvent[FileMoveToPendingFields]):
    TYPE = "stageline.file.move_to_pending.v1"
    VERSION = "1.1"


class FileMoveToRecycleBin(AlfredEvent[FileMoveToRecycleBinFields]):
    TYPE = "stageline.file.move_to_recycle_bin.v1"
    VERSION = "1.1"


class FilePropertyCreate(AlfredEvent[FilePropertyCreateFields]):
    TYPE = "stageline.file.property_create.v1"


class FilePropertyDelete(AlfredEvent[FilePropertyDeleteFields]):
    TYPE = "stageline.file.property_delete.v1"
    VERSION = "1.1"


class FileRemoveTag(AlfredEvent[FileRemoveTagFields]):
    TYPE = "stageline.file.remove_tag.v1"
    VERSION = "1.1"


class FileStatusUpdate(AlfredEvent[FileStatusUpdateFields]):
    TYPE = "stageline.file.status_update.v1"


class FileUpdate(AlfredEvent[FileUpdateFields]):
    TYPE = "stageline.file.update.v1"


FILE_EVENTS = (
    FileAddToJob, FileCategoryCreate, FileCategoryDelete, FileChangeTag, FileDone, FileExtractedDataCreate,
    FileExtractedDataDelete, FileFailed, FileMove, FileMoveToPending, FileMoveToRecycleBin, FilePropertyCreate,
    FilePropertyDelete, FileRemoveTag, FileStatusUpdate, FileUpdate,
)  # fmt: skip
