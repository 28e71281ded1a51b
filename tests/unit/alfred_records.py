"""A session, its job and its file in the read model, and a reader of answers that is as strict as the vendor's .NET types."""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from contracts import FileAdded, FileRef, JobRequest, Message, SessionClosed, SessionOpened, Tenancy
from contracts.file_events import FileAddToJob, FileCategoryCreate, FileDone, FileExtractedDataCreate
from contracts.job_events import JobCreate
from contracts.status import FileStatus
from services.ingest.handlers import on_batch
from shared.processing.records import Inbound
from shared.processing.unit_of_work import Unit
from shared.telemetry.tracing import Telemetry
from tests.contracts.examples import AT

JOB, REMOTE_JOB, SESSION, FILE = (str(uuid.UUID(int=n, version=4)) for n in range(1, 5))
OWNER = Tenancy(tenant_id="acme", tenant_name="Acme", user_name="ann")
COMMON: dict[str, Any] = {"company_id": "acme", "company_name": "Acme"}
DATES = {"creation_date": AT, "update_date": AT}
REF = FileRef(file_id=FILE, file_name="a.pdf", size=7, md5="cd" * 16, blob_name="acme/ab/1")
ZERO = "0001-01-01"


class Strict:
    """Reads members of one answer as the .NET client does (`JobDetailResult`, `FileDetailResult`, `DataPointResult` and others)."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer = answer

    def check(self, kinds: dict[str, str]) -> None:
        for kind, names in kinds.items():
            for name in names.split():
                assert name in self.answer, name
                value = self.answer[name]
                assert (value is None and kind.endswith("?")) or getattr(self, kind.rstrip("?"))(value), (name, value)

    def guid(self, value: str) -> bool:
        return str(uuid.UUID(value)) == value

    def date(self, value: Any) -> bool:
        return datetime.fromisoformat(value).tzinfo is not None and str(value) > ZERO

    def flag(self, value: Any) -> bool:
        return isinstance(value, bool)

    def number(self, value: Any) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool)

    def string(self, value: Any) -> bool:
        return isinstance(value, str)

    def strings(self, value: Any) -> bool:
        return isinstance(value, list) and all(isinstance(v, str) for v in value)

    def objects(self, value: Any) -> bool:
        return isinstance(value, list) and all(isinstance(v, dict) for v in value)


JOB_TYPES = {
    "guid": "id company_id", "guid?": "deferred_session_id", "date": "creation_date update_date", "date?": "job_request_date start_date",
    "flag": "has_job_request_info merge decompose propagate_metadata exceeded_retries",
    "number": "decomposed_page_rotation file_count file_sources_count metadata_objects_count finished_files retries input_source_type",
    "string": "stage channel user_name", "strings": "file_urls error_messages", "strings?": "remote_file_names", "objects?": "files",
    "string?": "bulk_id source container remote_file_name parent_file_prefix email_from email_subject email_body priority",
}  # fmt: skip
FILE_TYPES = {
    "guid": "id company_id", "guid?": "duplicate_origin_id tag_id parent_id deferred_session_id proposed_tag_id confirmed_tag_id",
    "date": "creation_date update_date",
    "flag": "should_be_classified is_duplicate is_duplicate_by_values is_parent manual_classification classification_score_above_deviation",
    "number": "classification_score file_size proposed_tag_variance page_count page_number",
    "string?": "file_name file_name_without_extension blob_name blob_url user_name md5_hash content_type channel classifier status tag_name "
    "confirmed_by input_type",
}  # fmt: skip
VALUE_TYPES = {"guid": "id file_log_id metadata_id", "string": "metadata_name value", "number": "classification_score"}
WHO_TYPES = {
    "string": "authentication_type user_name request_origin_ip_address status", "guid": "company_id user_id", "strings": "roles",
    "string?": "name last_name company_name app_id app_name",
}  # fmt: skip


def project(c: Connection, *events: Message) -> None:
    batch = [Inbound(e, "t", 0, n, 0.0, None, e.to_json(), ()) for n, e in enumerate(events)]
    on_batch(Unit(c, 1000.0, "/t", Telemetry("t", "i")), batch)


def session(seconds: int = 0) -> list[Message]:
    """A session with a file, which becomes a job."""
    base: dict[str, Any] = {
        "session_id": SESSION,
        "owner": OWNER,
        "caused_by": "c",
        "occurred_at": AT + timedelta(seconds=seconds),
    }
    request = JobRequest(propagate_metadata={"case": "42"})
    closed = SessionClosed(event_id="e3", job_id=JOB, job=request, files=(REF,), file_count=1, **base)
    return [SessionOpened(event_id="e1", expires_at=AT, **base), FileAdded(event_id="e2", file=REF, file_count=1, **base), closed]


def created(job: str, **more: Any) -> Message:
    fields = {"job_id": job, "sequence": 1, "user_name": "ann", "merge": False, "file_count": 1, **COMMON, **DATES, **more}
    return JobCreate.of(event_id=f"create-{job}", at=AT, **fields)


def processed(values: dict[str, Any], tag: str) -> list[Message]:
    """The file is tagged, and values are extracted from it."""
    base = {"file_id": FILE, "job_id": JOB, **COMMON, **DATES}
    logged = {**base, "file_log_id": FILE}
    done = {
        "blob_name": "acme/ab/1",
        "blob_url": "stageline://acme/ab/1",
        "tag_id": tag,
        "tag_name": tag,
        "file_status": FileStatus.FINISHED,
    }
    return [
        FileAddToJob.of(event_id="f1", at=AT, file_name="a.pdf", **base),
        FileCategoryCreate.of(event_id="f2", at=AT, description=tag, confidence=0.5, **logged),
        FileExtractedDataCreate.of(event_id="f3", at=AT, content=json.dumps(values), provider="rules", **logged),
        FileDone.of(event_id="f4", at=AT, **done, **base),
    ]  # fmt: skip
