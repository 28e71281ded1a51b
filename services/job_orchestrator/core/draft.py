"""The decision in the making: replaces frozen values, collects outputs, numbers and names events by their cause."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from contracts import FileStatus, JobStage, derived
from contracts.alfred import AlfredEvent
from contracts.file_events import FileAddToJob, FileFailed, FileStatusUpdate
from contracts.job_events import JobCreate, JobFinished, JobStageUpdate, JobStart
from contracts.stage import StageTask, TaskCancelled
from contracts.topics import FILE_EVENTS_TOPIC, JOB_EVENTS_TOPIC, STAGE_CANCELLATIONS_TOPIC, TASK_PREFIX
from services.job_orchestrator.core.job import Decision, Job, Lane, LaneState, Output, evolve


class Draft:
    """Works on one job for one event. `cause` is the id that all outputs' ids are derived from."""

    def __init__(self, job: Job, cause: str, now: datetime) -> None:
        self.job = job
        self.lanes = dict(job.lanes)
        self.cause = cause
        self.now = now
        self.unix = now.timestamp()
        self.outputs: list[Output] = []

    def decision(self) -> Decision:
        """The finished decision."""
        return Decision(evolve(self.job, {"lanes": self.lanes, "updated_at": self.now}), tuple(self.outputs))

    def change(self, **fields: Any) -> None:
        """Replace fields of the job."""
        self.job = evolve(self.job, fields)

    def put(self, lane: Lane, **fields: Any) -> Lane:
        """Replace fields of a lane and keep it."""
        lane = evolve(lane, fields)
        self.lanes[lane.id] = lane
        return lane

    def job_event(self, model: type[AlfredEvent[Any]], step: str | None = None, **fields: Any) -> None:
        """Append a job event with the next sequence number."""
        job = self.job
        sequence = job.sequence + 1
        self.change(sequence=sequence)
        event = model.of(
            event_id=derived(self.cause, model.TYPE, sequence), at=self.now, company_id=job.owner.tenant_id,
            company_name=job.owner.tenant_name, sequence=sequence, caused_by=self.cause, workflow=job.workflow.ref,
            step=step, job_id=job.id, deferred_session_id=job.session_id, creation_date=job.created_at,
            update_date=self.now, **fields,
        )  # fmt: skip
        self.outputs.append(Output(JOB_EVENTS_TOPIC.name, event))

    def file_event(self, model: type[AlfredEvent[Any]], lane: Lane, role: str = "", **fields: Any) -> None:
        """Append a file event of a lane; `role` tells apart several of one type from one cause."""
        job = self.job
        event = model.of(
            event_id=derived(self.cause, model.TYPE, lane.id, role), at=self.now, company_id=job.owner.tenant_id,
            company_name=job.owner.tenant_name, caused_by=self.cause, workflow=job.workflow.ref,
            step=job.step_of(lane).name if lane.attempt else None, job_id=job.id, creation_date=job.created_at,
            update_date=self.now, **fields,
        )  # fmt: skip
        self.outputs.append(Output(FILE_EVENTS_TOPIC.name, event))

    def created(self, file_urls: tuple[str, ...]) -> None:
        """JobCreate and one FileAddToJob per file."""
        request = self.job.request
        self.job_event(
            JobCreate, user_name=self.job.owner.user_name, merge=request.merge, metadata=request.metadata,
            file_count=self.job.total, file_urls=file_urls,
        )  # fmt: skip
        for lane in list(self.lanes.values()):
            if lane.file is not None:
                f = lane.file
                self.file_event(
                    FileAddToJob, lane, file_id=f.file_id, file_name=f.file_name, file_size=f.size,
                    content_type=f.content_type, blob_name=f.blob_name, md5_hash=f.md5, metadata=f.metadata,
                )  # fmt: skip

    def started(self) -> None:
        """JobStart: the state machine begins."""
        self.change(stage=JobStage.STARTED)
        self.job_event(JobStart)

    def move(self, stage: JobStage, step: str | None = None) -> None:
        """JobStageUpdate: the step forward that everything else follows from."""
        previous = self.job.stage
        self.change(stage=stage)
        self.job_event(JobStageUpdate, step=step, stage=stage, previous_stage=previous)

    def finished(self) -> None:
        """JobFinished, with the faults that best effort left behind."""
        job = self.job
        self.job_event(JobFinished, finished_files=job.done, failed_files=job.failed + job.invalid, error_messages=job.errors)

    def ended_badly(self, model: type[AlfredEvent[Any]], **more: Any) -> None:
        """JobFailed, JobInvalid, JobRetry or JobExceededRetries: they share their fields."""
        job = self.job
        self.job_event(
            model, user_name=job.owner.user_name, merge=job.request.merge, metadata=job.request.metadata,
            file_count=job.total, retries=job.retries, exceeded_retries=job.exceeded_retries, **more,
        )  # fmt: skip

    def status(self, lane: Lane, status: FileStatus, role: str = "", **more: Any) -> Lane:
        """FileStatusUpdate, for file lanes."""
        lane = self.put(lane, status=status)
        if lane.file is not None:
            self.file_event(
                FileStatusUpdate, lane, role, file_id=lane.file.file_id, blob_name=lane.file.blob_name or "",
                blob_url=lane.file.blob_url, tag_id=lane.tag, tag_name=lane.tag, file_status=status,
                classification_score=lane.score, **more,
            )  # fmt: skip
        return lane

    def file_failed(self, lane: Lane, status: FileStatus, code: str, message: str) -> None:
        """FileFailed, saying what the vendor's event cannot: which step, why, after how many attempts."""
        if lane.file is not None:
            self.file_event(
                FileFailed, lane, file_id=lane.file.file_id, blob_name=lane.file.blob_name or "",
                blob_url=lane.file.blob_url, tag_id=lane.tag, tag_name=lane.tag, file_status=status,
                classification_score=lane.score, code=code, message=message, attempts=lane.attempt,
            )  # fmt: skip

    def dispatch(self, lane: Lane, attempt: int, polls: int = 0) -> Lane:
        """Lease an attempt of the lane's step to whichever worker takes it."""
        step = self.job.step_of(lane)
        lease = derived(self.job.id, lane.id, step.name, attempt, polls, "lease")
        lane = self.put(
            lane, state=LaneState.QUEUED, attempt=attempt, polls=polls, waiting=False, lease=lease, worker=None, started_at=None,
            due_at=self.unix + step.timeouts.queued_s,
        )  # fmt: skip
        task = StageTask(
            task_id=derived(lease, "task"), job_id=self.job.id, tenant_id=self.job.owner.tenant_id,
            file_id=lane.id or None, step=step.name, action=step.action, attempt=attempt, lease=lease, issued_at=self.now,
            file=lane.file, config=step.config, inputs={k: dict(v) for k, v in lane.results.items()},
            timeout_s=step.timeouts.running_s, heartbeat_s=step.timeouts.heartbeat_s,
        )  # fmt: skip
        self.outputs.append(Output(TASK_PREFIX + step.action, task, command=True))
        return lane

    def revoke(self, lane: Lane, reason: str) -> None:
        """Tell every worker that the lane's open attempt is no longer wanted."""
        step = self.job.step_of(lane)
        note = TaskCancelled(
            event_id=derived(lane.lease, "cancelled"), job_id=self.job.id, tenant_id=self.job.owner.tenant_id,
            file_id=lane.id or None, step=step.name, action=step.action, attempt=lane.attempt, lease=lane.lease,
            occurred_at=self.now, reason=reason,
        )  # fmt: skip
        self.outputs.append(Output(STAGE_CANCELLATIONS_TOPIC.name, note, command=True))
