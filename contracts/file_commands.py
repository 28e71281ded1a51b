"""What people do to the files of a job: correct and delete values, take away a tag or a property, move, recycle, restore, erase.

Key: the job's id. `CommandDecided` answers each; what changed is on `file.events`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from contracts.job_commands import _JobCommand
from contracts.loose import Id, Text, Timestamp, check_metadata
from contracts.message import Message

Name = Annotated[str, Field(min_length=1, max_length=200)]


def check_value(value: Any) -> Any:
    """Return an extracted value unchanged: any JSON except null. Raises `ValueError` as `check_metadata`, and for null."""
    if value is None:
        raise ValueError("a value is expected; to take it away, delete it")
    return check_metadata(value)


Value = Annotated[str | bool | int | float | list[Any] | dict[str, Any], BeforeValidator(check_value)]


class _FileCommand(_JobCommand):
    file_id: Id
    reason: Text = Field(default="", max_length=1000)


class SetFileValue(_FileCommand):
    """Correct an extracted value of a file, or add one."""

    TYPE = "stageline.file.set_value_command.v1"
    name: Name
    value: Value


class DeleteFileValue(_FileCommand):
    """Delete an extracted value of a file."""

    TYPE = "stageline.file.delete_value_command.v1"
    name: Name


class DeleteFileProperty(_FileCommand):
    """Delete a property of a file."""

    TYPE = "stageline.file.delete_property_command.v1"
    name: Name


class RemoveFileTag(_FileCommand):
    """Take the tag away from a file."""

    TYPE = "stageline.file.remove_tag_command.v1"


class RecycleFile(_FileCommand):
    """Move a file of an ended job to the recycle bin."""

    TYPE = "stageline.file.recycle_command.v1"


class RestoreFile(_FileCommand):
    """Move a file back from the recycle bin."""

    TYPE = "stageline.file.restore_command.v1"


class MoveFile(_FileCommand):
    """Move a file of an ended job to another ended job, where it is pending: a re-run of that job processes it."""

    TYPE = "stageline.file.move_command.v1"
    to_job_id: Id


class EraseFile(_FileCommand):
    """Delete everything of a file of an ended job. Services delete their part on `FileErased`."""

    TYPE = "stageline.file.erase_command.v1"
    recycled: bool = True
    """Refuse unless the file is in the recycle bin."""


class FileErased(Message):
    """Every service and consumer deletes what it keeps of this file in this job."""

    TYPE = "stageline.file.erased.v1"
    event_id: Id
    job_id: Id
    file_id: Id
    tenant_id: Id
    occurred_at: Timestamp
    session_id: str | None = None
    """The session that the file was added to."""
    former_job_ids: tuple[str, ...] = Field(default=(), max_length=100)
    """Jobs that the file was in before it was moved. What is kept of it as a file of theirs goes too."""
    by: Text = ""
    reason: Text = ""
    blobs: tuple[str, ...] = Field(default=(), max_length=2000)
    """Objects of the file. Objects that another file names as well are kept."""

    @property
    def message_id(self) -> str:
        return self.event_id

    @property
    def key(self) -> str:
        return self.job_id

    @property
    def time(self) -> datetime:
        return self.occurred_at

    @property
    def tenant(self) -> str:
        return self.tenant_id


FileChange = SetFileValue | DeleteFileValue | DeleteFileProperty | RemoveFileTag | RecycleFile | RestoreFile | EraseFile
"""Commands that concern one job."""
FileCommand = FileChange | MoveFile
FILE_COMMANDS = (
    SetFileValue, DeleteFileValue, DeleteFileProperty, RemoveFileTag, RecycleFile, RestoreFile, MoveFile, EraseFile,
)  # fmt: skip
