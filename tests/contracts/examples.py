"""One example of every message type, as our writers make it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from contracts import (
    MODELS,
    AccessKeyIssued,
    AccessKeyRevoked,
    AddFile,
    BacklogLine,
    BacklogState,
    CancelJob,
    CloseSession,
    CommandDecided,
    CreateJob,
    DeleteFileProperty,
    DeleteFileValue,
    DeleteSchedule,
    DeleteWorkflow,
    DeliveryAttempted,
    EraseFile,
    EraseJob,
    EraseSession,
    ExplainJob,
    FileAdded,
    FileErased,
    FileRef,
    FileStatus,
    FindReferences,
    JobErased,
    JobExplained,
    JobRequest,
    JobStage,
    JobState,
    Message,
    MoveFile,
    OpenSession,
    PauseJob,
    PokeJob,
    Progress,
    PublishWorkflow,
    RecycleFile,
    ReferencesFound,
    RegisterWebhook,
    RemoveFileTag,
    ReportRefused,
    RerunJob,
    RestoreFile,
    ResumeJob,
    RetryJobNow,
    ScheduleState,
    SealKeyChanged,
    SecretChanged,
    SessionClosed,
    SessionCommandRefused,
    SessionErased,
    SessionExpired,
    SessionFiles,
    SessionOpened,
    SetControl,
    SetFileValue,
    SetSchedule,
    StageReport,
    StageTask,
    TaskCancelled,
    TaskStatus,
    Tenancy,
    TenantErased,
    TerminateJob,
    WebhookChanged,
    WebhookDecided,
    WorkerSeen,
    WorkflowPublished,
)
from contracts.alfred import AlfredEvent

AT = datetime(2026, 11, 22, 12, 0, 0, 250_000, UTC)
OWNER = Tenancy(tenant_id="286e2ed0-3626-4faa-a745-8ebf3488fbd7", tenant_name="Acme Corp", user_name="john_doe")
JOB = "12345678-1234-1234-1234-123456789abc"
SESSION = "0f767925-b464-4ffa-b621-1a0aeacac256"
FILE = FileRef(
    file_id="7d0c6b1e-6f37-4f0c-9a5b-0e7d8a1b2c3d", file_name="invoice1.pdf", content_type="application/pdf", size=1925,
    sha256="ab" * 32, md5="cd" * 16, blob_name="t/ab/" + "ab" * 32, metadata={"case": "42"},
)  # fmt: skip
LEASE: dict[str, Any] = {
    "job_id": JOB, "tenant_id": OWNER.tenant_id, "file_id": FILE.file_id, "step": "text", "action": "text.extract",
    "attempt": 2, "lease": "5b45453c-cdd0-51ed-afa1-0242ac120002",
}  # fmt: skip
LEASE_FACTS = {k: v for k, v in LEASE.items() if k != "lease"}
EVENT = {"event_id": "e-1", "caused_by": "c-1", "session_id": SESSION, "owner": OWNER, "occurred_at": AT}
COMMAND = {"command_id": "c-1", "owner": OWNER, "issued_at": AT}
ACCESS = {"event_id": "e-1", "key_hash": "0f" * 32, "tenant_id": "default", "occurred_at": AT}

# Values for the fields of Alfred's events, by field name.
FIELDS: dict[str, Any] = {
    "company_id": OWNER.tenant_id, "company_name": OWNER.tenant_name, "sequence": 3, "caused_by": "c-1",
    "workflow": "documents@1", "step": "text", "job_id": JOB, "deferred_session_id": SESSION, "creation_date": AT,
    "update_date": AT, "user_name": "john_doe", "merge": True, "metadata": {"batch": "May"}, "file_count": 2,
    "file_urls": ("https://example.com/files/invoice1.pdf",), "stage": JobStage.IN_PROGRESS,
    "previous_stage": JobStage.DOWNLOADED, "retries": 1, "exceeded_retries": False, "file_id": FILE.file_id, "attempt": 2,
    "code": "worker_error", "message": "gone", "retry_at": 1795348800.25, "error_messages": ("a: b [c]",),
    "finished_files": 1, "failed_files": 1, "file_name": "invoice1.pdf", "file_size": 1925,
    "content_type": "application/pdf", "blob_name": FILE.blob_name, "md5_hash": FILE.md5, "file_log_id": FILE.file_id,
    "description": "invoice", "confidence": 0.94, "previous_tag_id": "letter", "previous_tag_name": "letter",
    "proposed_tag_id": "invoice", "classification_score": 0.94, "new_tag_id": "invoice", "new_tag_name": "invoice",
    "blob_url": "stageline://x", "tag_id": "invoice", "tag_name": "invoice", "file_status": FileStatus.OCR,
    "result_blob": "t/aa/1", "text_blob": "t/bb/2", "index_blob": "t/cc/3", "classification_status": "waiting", "attempts": 2,
    "content": "{}", "provider": "extract", "file_name_without_extension": "invoice1", "previous_file_directory": "Inbox",
    "new_file_directory": "Invoices", "name": "page_count", "value": "3", "tag_being_removed_id": "letter",
    "tag_being_removed_name": "letter", "manual_classification": False, "progress_done": 1, "progress_total": 3,
    "worker": "w-1", "page_count": 3,
}  # fmt: skip

OTHERS: tuple[Message, ...] = (
    OpenSession(session_id=SESSION, ttl_s=60, **COMMAND),
    AddFile(session_id=SESSION, file=FILE, **COMMAND),
    CloseSession(session_id=SESSION, job=JobRequest(metadata="prose", priority="high"), **COMMAND),
    SessionOpened(expires_at=AT, **EVENT),
    FileAdded(file=FILE, file_count=1, **EVENT),
    SessionClosed(job_id=JOB, job=JobRequest(), files=(FILE,), **EVENT),
    SessionExpired(file_count=0, **EVENT),
    EraseSession(session_id=SESSION, reason="asked to", **COMMAND),
    SessionErased(reason="asked to", blobs=(str(FILE.blob_name),), **EVENT),
    SessionCommandRefused(reason="closed", message="closed already", job_id=JOB, **EVENT),
    CreateJob(job_id=JOB, job=JobRequest(workflow="noop-five"), files=(FILE,), **COMMAND),
    CancelJob(job_id=JOB, reason="not needed", **COMMAND),
    StageTask(task_id="t-1", issued_at=AT, file=FILE, config={"a": 1}, inputs={"fetch": {"b": 2}}, timeout_s=60.0, heartbeat_s=5.0, **LEASE),
    StageReport(
        report_id="r-1", reported_at=AT, status=TaskStatus.OK, result={"text_blob": "x"}, progress=Progress(done=1, total=3),
        worker="w-1", duration_ms=12.5, **LEASE,
    ),
    SessionFiles(job_id=JOB, part=0, files=(FILE,), **EVENT),
    TenantErased(event_id="e-1", tenant_id=OWNER.tenant_id, occurred_at=AT, by="admin"),
    TerminateJob(job_id=JOB, reason="stuck", **COMMAND),
    PauseJob(job_id=JOB, reason="wrong scans", **COMMAND),
    ResumeJob(job_id=JOB, reason="scans are right", **COMMAND),
    RetryJobNow(job_id=JOB, file_id=FILE.file_id, reason="disk is back", **COMMAND),
    RerunJob(
        job_id=JOB, new_job_id="c56d9a1e-0000-4000-8000-000000000001", from_step="text", only="failed", file_ids=(FILE.file_id,),
        workflow_version=2, metadata={"batch": "June"}, args={"text": {"layout": True}}, reason="new text step", **COMMAND,
    ),
    PokeJob(job_id=JOB, step="approve", outcome="KO", code="rejected", message="wrong customer", data={"seen": 1}, **COMMAND),
    ExplainJob(job_id=JOB, **COMMAND),
    EraseJob(job_id=JOB, reason="asked to", **COMMAND),
    JobErased(
        event_id="e-1", job_id=JOB, tenant_id=OWNER.tenant_id, occurred_at=AT, session_id=SESSION, by="john_doe", reason="asked to",
        part=0, blobs=("t/ab/1",),
    ),
    SetFileValue(job_id=JOB, file_id=FILE.file_id, name="total", value="12.50", reason="misread", **COMMAND),
    DeleteFileValue(job_id=JOB, file_id=FILE.file_id, name="iban", **COMMAND),
    DeleteFileProperty(job_id=JOB, file_id=FILE.file_id, name="author", **COMMAND),
    RemoveFileTag(job_id=JOB, file_id=FILE.file_id, reason="no letter", **COMMAND),
    RecycleFile(job_id=JOB, file_id=FILE.file_id, reason="sent twice", **COMMAND),
    RestoreFile(job_id=JOB, file_id=FILE.file_id, **COMMAND),
    MoveFile(job_id=JOB, file_id=FILE.file_id, to_job_id="c56d9a1e-0000-4000-8000-000000000001", **COMMAND),
    EraseFile(job_id=JOB, file_id=FILE.file_id, **COMMAND),
    FileErased(
        event_id="e-1", job_id=JOB, file_id=FILE.file_id, tenant_id=OWNER.tenant_id, occurred_at=AT, session_id=SESSION, by="john_doe",
        former_job_ids=("c56d9a1e-0000-4000-8000-000000000001",), reason="recycled", blobs=("t/ab/1",),
    ),
    CommandDecided(
        answer_id="a-1", command_id="c-1", tenant_id=OWNER.tenant_id, occurred_at=AT, subject=JOB, verb="pause", ok=False,
        code="job_has_ended", message="the job has ended", by="john_doe", reason="wrong scans", job_id=JOB, sequence=7,
    ),
    JobExplained(
        answer_id="a-1", command_id="c-1", tenant_id=OWNER.tenant_id, occurred_at=AT, job_id=JOB, code="retry_due",
        message="text failed", facts={"step": "text", "attempt": 2}, changes_at=AT,
    ),
    SetControl(kind="action", name="text.ocr", paused=True, limit=4, rate_per_s=2.5, burst=5, weight=1.0, clear=(), reason="night", **COMMAND),
    PublishWorkflow(name="letters", definition={"name": "letters", "version": 1, "steps": []}, **COMMAND),
    SetSchedule(
        schedule_id="s-1", cron="0 6 * * 1-5", time_zone="Europe/Berlin", job=JobRequest(), urls=("https://example.com/a.pdf",), **COMMAND
    ),
    DeleteSchedule(schedule_id="s-1", **COMMAND),
    DeleteWorkflow(name="letters", **COMMAND),
    FindReferences(blobs=("t/ab/1", "t/cd/2"), **COMMAND),
    ReferencesFound(answer_id="a-1", command_id="c-1", tenant_id=OWNER.tenant_id, occurred_at=AT, blobs=("t/ab/1",)),
    WorkflowPublished(name="letters", version=1, definition={"name": "letters", "version": 1, "steps": []}, published_at=AT),
    ScheduleState(
        schedule_id="s-1", owner=OWNER, cron="0 6 * * *", time_zone="UTC", job=JobRequest(), next_at=AT, last_job_id=JOB, revision=3,
        changed_at=AT,
    ),
    WorkerSeen(worker="w-1", actions=("text.ocr",), slots=4, client="stageline-worker/0.2.0", seen_at=AT),
    ReportRefused(
        refusal_id="x-1", occurred_at=AT, report_id="r-1", status="OK", reason="stale_attempt", worker="w-1", duration_ms=12.5, **LEASE_FACTS,
    ),
    BacklogState(
        source="o-1", observed_at=AT, workers={"text.ocr": 1795348800.2},
        lines=(BacklogLine(action="text.ocr", tenant_id="t", waiting=5, in_flight=2, oldest_at=1795348800.0, arrival_per_s=1.5,
                           service_per_s=2.5, drained_at=1795348900.0, wasted=1, gate="limit", gate_message="limit: 2"),),
        controls=({"kind": "action", "name": "text.ocr", "limit": 2},),
    ),
    TaskCancelled(event_id="e-1", occurred_at=AT, reason="cancelled", **LEASE),
    DeliveryAttempted(
        attempt_id="a-1", tenant_id=OWNER.tenant_id, endpoint_id="ep-1", event_id="e-1", event_type="job.finished", job_id=JOB,
        attempt=1, attempted_at=AT, outcome="retrying", status_code=500, error="http_status", duration_ms=3.5, next_attempt_at=AT,
    ),
    JobState(
        job_id=JOB, tenant_id=OWNER.tenant_id, tenant_name=OWNER.tenant_name, sequence=7, stage=JobStage.IN_PROGRESS, workflow="documents@1",
        step="text", created_at=AT, updated_at=AT, session_id=SESSION, metadata={"batch": "May"}, file_count=2, finished_files=1,
        failed_files=0, cancelled_files=0, retries=1, error_messages=("a: b [c]",),
    ),
    AccessKeyIssued(tenant_name="Default", user_name="admin", role="admin", prefix="sl_abcde", **ACCESS),
    SecretChanged(
        event_id="e-1", tenant_id=OWNER.tenant_id, name="crm", sealed="c2VhbGVk", origins=("https://crm.example.com:443",), by="ann", occurred_at=AT,
    ),
    SealKeyChanged(key_id="k-1", part=-1, version=1, nodes="AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==", created_at=AT, changed_at=AT),
    RegisterWebhook(command_id="c-1", endpoint_id="ep-1", owner=OWNER, url="https://example.com/hooks", issued_at=AT),
    WebhookDecided(
        event_id="e-1", command_id="c-1", endpoint_id="ep-1", tenant_id=OWNER.tenant_id, ok=False, code="challenge_failed",
        message="the address did not answer with the challenge", occurred_at=AT,
    ),
    WebhookChanged(
        event_id="e-1", command_id="c-1", endpoint_id="ep-1", tenant_id=OWNER.tenant_id, verb="replay", by="john_doe",
        reason="the receiver was down", message="12 deliveries are due", occurred_at=AT,
    ),
    AccessKeyRevoked(**ACCESS),
)  # fmt: skip


def example(model: type[Message]) -> Message:
    """The example of a type."""
    if issubclass(model, AlfredEvent):
        inner = model.model_fields["event"].annotation
        fields = {k: v for k, v in FIELDS.items() if k in inner.model_fields}  # type: ignore[union-attr]
        return model.of(event_id="e-1", at=AT, **fields)
    return next(m for m in OTHERS if type(m) is model)


def examples() -> dict[str, Message]:
    """CloudEvents type → example, for every type."""
    return {type_: example(model) for type_, model in MODELS.items()}
