"""A decision in the making: replaces values, collects messages, and names each message by its cause. What happens is decided elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from itertools import islice
from typing import Any

from contracts import (
    CancelJob,
    CreateJob,
    FileRef,
    FileStatus,
    JobRequest,
    JobStage,
    ParentTask,
    StageReport,
    TaskStatus,
    derived,
)
from contracts.alfred import AlfredEvent
from contracts.file_events import FileAddToJob, FileDone, FileFailed, FileStatusUpdate
from contracts.job_events import JobCreate, JobFinished, JobStageUpdate, JobStart
from contracts.parameters import merged
from contracts.stage import StageTask, TaskCancelled
from contracts.topics import (
    FILE_EVENTS_TOPIC,
    JOB_COMMANDS_TOPIC,
    JOB_EVENTS_TOPIC,
    STAGE_CANCELLATIONS_TOPIC,
    STAGE_REPORTS_TOPIC,
    TASK_PREFIX,
)
from contracts.work import MAX_PART, TaskFile
from services.job_orchestrator.core.job import JOB_BRANCH, Branch, Decision, Job, Output, child_id, evolve, outputs_of, results_of
from services.job_orchestrator.core.workflow import ChildJob, Step

Credits = Callable[[str], int]
"""How many tasks of an action this job may hand out now."""
CHILD_ACTION = "job"
"""The action that a child job reports its end under."""


def unlimited(action: str) -> int:
    """More credits than any job can use."""
    return 1 << 30


class DecisionBuilder:
    """Builds the decision on one event for one job. The ids of all messages derive from `cause`, the event's id."""

    def __init__(self, job: Job, cause: str, now: datetime, credits: Credits = unlimited) -> None:
        self.job = job
        self._own = False
        self.branches = dict(job.branches)
        self.cause = cause
        self.now = now
        self.unix = now.timestamp()
        self.outputs: list[Output] = []
        self.credits = credits
        self.step_end: dict[str, str | None] = {}
        """How the step ended that led to what follows. The next stage update carries it."""
        self.freed: dict[str, int] = {}
        """Credits that this decision gives back, less those it takes, by action."""

    def decision(self) -> Decision:
        """The finished decision."""
        self.change_job(branches=self.branches, updated_at=self.now)
        return Decision(self.job, tuple(self.outputs))

    def change_job(self, **fields: Any) -> None:
        """Replace fields of the job. Raises `TypeError` for a field that a job does not have."""
        # The first change makes a copy that belongs to this builder; later ones change the copy in place.
        if not self._own:
            self.job = evolve(self.job, fields)
            self._own = True
        elif fields.keys() <= vars(self.job).keys():
            vars(self.job).update(fields)
        else:
            raise TypeError(f"Job has no field {', '.join(sorted(fields.keys() - vars(self.job).keys()))}")

    def change_branch(self, branch: Branch, **fields: Any) -> Branch:
        """Replace fields of a branch and keep the result. Raises `TypeError` for a field that a branch does not have."""
        branch = evolve(branch, fields)
        self.branches[branch.id] = branch
        return branch

    def remember_step_end(self, step: Step, status: str, code: str | None, message: str | None) -> None:
        """Let the next stage update say how `step` ended."""
        self.step_end = {"previous_step": step.name, "step_status": status, "step_code": code, "step_message": message}

    # Events of the job.

    def job_event(self, model: type[AlfredEvent[Any]], step: str | None = None, **fields: Any) -> None:
        """Append a job event with the next sequence number."""
        job = self.job
        sequence = job.sequence + 1
        self.change_job(sequence=sequence)
        # Every value was validated on arrival or is made here, so the event is built without a second validation.
        values = {
            "company_id": job.owner.tenant_id, "company_name": job.owner.tenant_name, "sequence": sequence, "caused_by": self.cause,
            "workflow": job.workflow.ref, "step": step, "job_id": job.id, "deferred_session_id": job.session_id,
            "creation_date": job.created_at, "update_date": self.now, **fields,
        }  # fmt: skip
        event = model.fact(derived(self.cause, model.TYPE, sequence), self.unix, values)
        self.outputs.append(Output(JOB_EVENTS_TOPIC.name, event))

    def job_created(self, file_urls: tuple[str, ...]) -> None:
        """JobCreate, and one FileAddToJob per file. `file_urls` has the addresses of remote files."""
        request, remote = self.job.request, set(file_urls)
        files = [branch.file for branch in self.branches.values() if branch.file is not None]
        self.job_event(
            JobCreate, user_name=self.job.owner.user_name, merge=request.merge, metadata=request.metadata,
            file_count=self.job.total, file_urls=file_urls, job_key=request.job_key, priority=request.priority,
            parent_job_id=self.job.parent.job_id if self.job.parent else None, rerun_of=self.job.rerun_of,
            start_at=request.start_at.timestamp() if request.start_at else None,
            uploaded_ids=tuple(islice((f.file_id for f in files if f.url not in remote), MAX_PART)) or None,
        )  # fmt: skip
        for branch in list(self.branches.values()):
            if branch.file is not None:
                f = branch.file
                self.file_event(
                    FileAddToJob, branch, file_id=f.file_id, file_name=f.file_name, file_size=f.size,
                    content_type=f.content_type, blob_name=f.blob_name, md5_hash=f.md5, metadata=f.metadata,
                )  # fmt: skip

    def job_started(self) -> None:
        """JobStart."""
        self.change_job(stage=JobStage.STARTED)
        self.job_event(JobStart)

    def stage_reached(self, stage: JobStage, step: str | None = None) -> None:
        """JobStageUpdate to `stage`, with how the step before ended."""
        previous = self.job.stage
        self.change_job(stage=stage)
        self.job_event(JobStageUpdate, step=step, stage=stage, previous_stage=previous, **self.step_end)

    def operator_note(self, verb: str, by: str, reason: str) -> None:
        """JobStageUpdate at the same stage: `by` did `verb` to the job, for `reason`."""
        job = self.job
        step = job.workflow.all_steps[job.frontier].name if job.frontier >= 0 else None
        self.job_event(JobStageUpdate, step=step, stage=job.stage, previous_stage=job.stage, verb=verb, by=by, reason=reason)

    def job_finished(self) -> None:
        """JobFinished, with the errors of the files that dropped out."""
        job = self.job
        branch = self.branches.get(JOB_BRANCH)
        self.job_event(
            JobFinished, finished_files=job.done, failed_files=job.failed + job.invalid, error_messages=job.errors,
            outputs=outputs_of(branch) if branch is not None else None, file_ends=job.file_ends, results=results_of(job, branch),
        )  # fmt: skip

    def job_problem(self, model: type[AlfredEvent[Any]], **more: Any) -> None:
        """JobFailed, JobInvalid, JobRetry or JobExceededRetries, which share most fields."""
        job = self.job
        self.job_event(
            model, user_name=job.owner.user_name, merge=job.request.merge, metadata=job.request.metadata,
            file_count=job.total, retries=job.retries, exceeded_retries=job.exceeded_retries, **more,
        )  # fmt: skip

    def parent_report(self) -> None:
        """Report the job's end to the step of the parent job that waits for it, if there is one."""
        job, parent = self.job, self.job.parent
        if parent is None:
            return
        completed = job.stage is JobStage.COMPLETED
        result = {
            "job_id": job.id, "stage": job.stage.value, "finished_files": job.done, "failed_files": job.failed + job.invalid,
        }  # fmt: skip
        report = StageReport(
            report_id=derived(parent.lease, job.id, "end"), job_id=parent.job_id, tenant_id=job.owner.tenant_id,
            file_id=parent.file_id, step=parent.step, action=parent.action, attempt=parent.attempt, lease=parent.lease,
            reported_at=self.now, status=TaskStatus.OK if completed else TaskStatus.KO,
            code=None if completed else f"child_{job.stage.value}", worker=f"job {job.id}", result=result,
            message=None if completed else ("; ".join(job.errors) or f"job {job.id} is {job.stage.value}")[:4000],
        )  # fmt: skip
        self.outputs.append(Output(STAGE_REPORTS_TOPIC.name, report, command=True))

    # Events of files.

    def file_event(self, model: type[AlfredEvent[Any]], branch: Branch, role: str = "", **fields: Any) -> None:
        """Append a file event of a branch. `role` distinguishes events of one type from one cause."""
        job = self.job
        event = model.of(
            event_id=derived(self.cause, model.TYPE, branch.id, role), at=self.now, company_id=job.owner.tenant_id,
            company_name=job.owner.tenant_name, caused_by=self.cause, workflow=job.workflow.ref,
            step=job.workflow.all_steps[branch.step].name if branch.attempt else None, job_id=job.id, creation_date=job.created_at,
            update_date=self.now, **fields,
        )  # fmt: skip
        self.outputs.append(Output(FILE_EVENTS_TOPIC.name, event))

    def _file_state(self, model: type[AlfredEvent[Any]], branch: Branch, role: str, status: FileStatus, **more: Any) -> None:
        # The job's own branch has no file, so it has no file events.
        if branch.file is not None:
            self.file_event(
                model, branch, role, file_id=branch.file.file_id, blob_name=branch.file.blob_name or "",
                blob_url=branch.file.blob_url, tag_id=branch.tag, tag_name=branch.tag, file_status=status, **more,
            )  # fmt: skip

    def file_status(self, branch: Branch, status: FileStatus, role: str = "", **more: Any) -> Branch:
        """Set a branch's status and, for a file, append FileStatusUpdate."""
        branch = self.change_branch(branch, status=status)
        self._file_state(FileStatusUpdate, branch, role, status, classification_score=branch.score, **more)
        return branch

    def file_failed(self, branch: Branch, status: FileStatus, code: str, message: str) -> None:
        """FileFailed. Beyond Alfred's fields it says why, and after how many attempts."""
        self._file_state(
            FileFailed, branch, "", status, classification_score=branch.score, code=code, message=message, attempts=branch.attempt,
            results=results_of(self.job, branch),
        )  # fmt: skip

    def file_done(self, branch: Branch) -> None:
        """FileDone, with what the file's steps stored."""
        merged = {key: value for result in branch.results.values() for key, value in result.items()}
        blobs = {name: merged.get(name) for name in ("result_blob", "text_blob", "index_blob")}
        self._file_state(
            FileDone, branch, "", FileStatus.FINISHED, outputs=outputs_of(branch),
            results=results_of(self.job, branch), **blobs,
        )  # fmt: skip

    # Commands to workers and child jobs.

    def task(self, branch: Branch, step: Step, files: tuple[TaskFile, ...] | None) -> None:
        """StageTask for the branch's open attempt. `files`: every file of the job, for a step that asks for them."""
        arguments = (self.job.request.args or {}).get(step.name)
        task = StageTask.trusted(
            task_id=derived(branch.lease, "task"), job_id=self.job.id, tenant_id=self.job.owner.tenant_id,
            file_id=branch.id or None, step=step.name, action=step.action, attempt=branch.attempt, lease=branch.lease,
            issued_at=self.now, file=branch.file, files=files, polls=branch.polls - (branch.returned or 0) or None,
            config=dict(merged(step, arguments)) if arguments else step.config, inputs=dict(branch.results),
            metadata=self.job.request.metadata, timeout_s=step.timeouts.running_s, heartbeat_s=step.timeouts.heartbeat_s,
        )  # fmt: skip
        self.outputs.append(Output(TASK_PREFIX + step.action, task, command=True))

    def child_job(self, branch: Branch, step: Step, child: ChildJob, files: tuple[FileRef, ...], depth: int) -> None:
        """CreateJob for a child. It reports its end under the branch's lease, as a worker would."""
        job = self.job
        parent = ParentTask(
            job_id=job.id, file_id=branch.id or None, step=step.name, action=CHILD_ACTION, attempt=branch.attempt, lease=branch.lease,
            depth=depth,
        )  # fmt: skip
        request = JobRequest(
            workflow=child.workflow, workflow_version=child.version, metadata=job.request.metadata, priority=job.request.priority,
            channel=job.request.channel, args=job.request.args,
        )  # fmt: skip
        command = CreateJob(
            command_id=derived(branch.lease, "create"), job_id=child_id(branch), owner=job.owner, issued_at=self.now, job=request,
            files=files, parent=parent,
        )  # fmt: skip
        self.outputs.append(Output(JOB_COMMANDS_TOPIC.name, command, command=True))

    def child_cancelled(self, branch: Branch, reason: str) -> None:
        """CancelJob for the child job of the branch's open attempt."""
        command = CancelJob(
            command_id=derived(branch.lease, "cancelled"), job_id=child_id(branch), owner=self.job.owner, issued_at=self.now,
            reason=f"job {self.job.id}: {reason}"[:1000],
        )  # fmt: skip
        self.outputs.append(Output(JOB_COMMANDS_TOPIC.name, command, command=True))

    def task_cancelled(self, branch: Branch, step: Step, reason: str) -> None:
        """TaskCancelled for the branch's open attempt."""
        cancelled = TaskCancelled(
            event_id=derived(branch.lease, "cancelled"), job_id=self.job.id, tenant_id=self.job.owner.tenant_id,
            file_id=branch.id or None, step=step.name, action=step.action, attempt=branch.attempt, lease=branch.lease,
            occurred_at=self.now, reason=reason,
        )  # fmt: skip
        self.outputs.append(Output(STAGE_CANCELLATIONS_TOPIC.name, cancelled, command=True))
