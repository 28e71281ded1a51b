"""Alfred's job stages and file statuses, and the statuses of a worker's report. Readers keep unknown stages and statuses verbatim."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Self, TypeVar

from pydantic import PlainSerializer, PlainValidator, ValidationInfo, WithJsonSchema

from contracts.loose import is_reader


class OpenEnum(StrEnum):
    """A `StrEnum` that keeps unknown values, so that an older reader does not lose a newer writer's value."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str) or not 0 < len(value) <= 64:
            return None
        member = str.__new__(cls, value)
        member._name_ = "UNKNOWN"
        member._value_ = value
        return member

    @property
    def known(self) -> bool:
        """False for a value that this version does not define."""
        return self._name_ != "UNKNOWN"


class JobStage(OpenEnum):
    """The stage of a job: one of Alfred's 16 (reference/vendor-apis.md §1.4)."""

    QUEUED = "queued"
    STARTED = "started"
    DOWNLOADING = "downloading"
    DOWNLOADED = "downloaded"
    UPLOADING = "uploading"
    UPLOADED = "uploaded"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    INVALID = "invalid"
    CANCELLED = "cancelled"
    SYNCING = "syncing"
    SYNCED = "synced"
    IN_REVISION = "in_revision"
    WAITING_TO_BE_SENT_TO_THIRD_PARTY = "waiting_to_be_sent_to_third_party"
    SENT_TO_THIRD_PARTY = "sent_to_third_party"

    @property
    def terminal(self) -> bool:
        """True for a stage that no other stage follows."""
        return self in TERMINAL_STAGES


TERMINAL_STAGES = frozenset({JobStage.COMPLETED, JobStage.FAILED, JobStage.INVALID, JobStage.CANCELLED})


class FileStatus(OpenEnum):
    """The status of a file: Alfred's 13 numbered ones (§1.5), then ours for outcomes that its page does not number."""

    UPLOADED = "uploaded"
    METADATA = "metadata"
    PRE_PROCESSING = "pre_processing"
    PRE_PROCESSED = "pre_processed"
    DECOMPOSING = "decomposing"
    DECOMPOSED = "decomposed"
    OCR = "ocr"
    TRANSFORMED = "transformed"
    CLASSIFYING = "classifying"
    CLASSIFIED = "classified"
    INDEXING = "indexing"
    INDEXED = "indexed"
    EXTRACTING = "extracting"
    PENDING = "pending"
    FINISHED = "finished"
    FAILED = "failed"
    INVALID = "invalid"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"

    @property
    def code(self) -> int | None:
        """Alfred's number, 0 to 12. None for the others: no known document gives the numbers from 13 on."""
        position = list(FileStatus).index(self) if self.known else 13
        return position if position < 13 else None

    @property
    def terminal(self) -> bool:
        """True for a status that no other status follows within the same job."""
        return self in TERMINAL_STATUSES


TERMINAL_STATUSES = frozenset({FileStatus.FINISHED, FileStatus.FAILED, FileStatus.INVALID, FileStatus.CANCELLED})


class TaskStatus(StrEnum):
    """The status in a worker's report, with Invopop's names (§2.4). RUN is a heartbeat; QUEUED asks for more time."""

    OK = "OK"
    KO = "KO"
    ERR = "ERR"
    QUEUED = "QUEUED"
    SKIP = "SKIP"
    RUN = "RUN"


def _stage(value: Any, info: ValidationInfo) -> JobStage:
    return _open(JobStage, value, info)


def _file_status(value: Any, info: ValidationInfo) -> FileStatus:
    if is_reader(info) and isinstance(value, int) and 0 <= value < 13:
        return list(FileStatus)[value]
    return _open(FileStatus, value, info)


E = TypeVar("E", bound=OpenEnum)


def _open(kind: type[E], value: Any, info: ValidationInfo) -> E:
    named = kind._value2member_map_.get(value) if value.__class__ is str else None
    if isinstance(named, kind):
        return named
    member = kind(value)
    # A writer may use the values of this version only. A reader keeps every value.
    if not member.known and not is_reader(info):
        raise ValueError(f"{value!r} is no {kind.__name__}")
    return member


_AS_TEXT = PlainSerializer(str, return_type=str, when_used="json")
JobStageValue = Annotated[
    JobStage,
    PlainValidator(_stage),
    _AS_TEXT,
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 64, "examples": [s.value for s in JobStage]}),
]
FileStatusValue = Annotated[
    FileStatus,
    PlainValidator(_file_status),
    _AS_TEXT,
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 64, "examples": [s.value for s in FileStatus]}),
]
