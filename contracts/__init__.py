"""What travels: events, commands and topics of Stageline. Imports pydantic and nothing else."""

from contracts.access import AccessKeyIssued, AccessKeyRevoked
from contracts.cloudevents import Record, UndecodableRecord, from_record, to_record
from contracts.delivery import DeliveryAttempted
from contracts.file_events import (
    FILE_EVENTS,
    FileAddToJob,
    FileCategoryCreate,
    FileDone,
    FileExtractedDataCreate,
    FileFailed,
    FileStatusUpdate,
    FileUpdate,
)
from contracts.identity import derived
from contracts.job_commands import CancelJob, CreateJob, JobCommand
from contracts.job_events import (
    JOB_EVENTS,
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
from contracts.job_state import JobState
from contracts.message import Contract, Message
from contracts.names import alfred_model, canonical_event_name
from contracts.session import (
    AddFile,
    CloseSession,
    FileAdded,
    OpenSession,
    SessionClosed,
    SessionCommand,
    SessionCommandRefused,
    SessionEvent,
    SessionExpired,
    SessionOpened,
)
from contracts.stage import Progress, StageReport, StageTask, TaskCancelled
from contracts.status import FileStatus, JobStage, TaskStatus
from contracts.topics import MODELS, TOPICS, Topic, all_topics, dead_letter_topic, task_topic
from contracts.work import FileRef, JobRequest, Tenancy

__all__ = [
    "FILE_EVENTS",
    "JOB_EVENTS",
    "MODELS",
    "TOPICS",
    "AccessKeyIssued",
    "AccessKeyRevoked",
    "AddFile",
    "CancelJob",
    "CloseSession",
    "Contract",
    "CreateJob",
    "DeliveryAttempted",
    "FileAddToJob",
    "FileAdded",
    "FileCategoryCreate",
    "FileDone",
    "FileExtractedDataCreate",
    "FileFailed",
    "FileRef",
    "FileStatus",
    "FileStatusUpdate",
    "FileUpdate",
    "JobCommand",
    "JobCreate",
    "JobEvent",
    "JobExceededRetries",
    "JobFailed",
    "JobFinished",
    "JobInvalid",
    "JobRequest",
    "JobRetry",
    "JobStage",
    "JobStageUpdate",
    "JobStart",
    "JobState",
    "Message",
    "OpenSession",
    "Progress",
    "Record",
    "SessionClosed",
    "SessionCommand",
    "SessionCommandRefused",
    "SessionEvent",
    "SessionExpired",
    "SessionOpened",
    "StageReport",
    "StageTask",
    "TaskCancelled",
    "TaskStatus",
    "Tenancy",
    "Topic",
    "UndecodableRecord",
    "alfred_model",
    "all_topics",
    "canonical_event_name",
    "dead_letter_topic",
    "derived",
    "from_record",
    "task_topic",
    "to_record",
]  # fmt: skip
