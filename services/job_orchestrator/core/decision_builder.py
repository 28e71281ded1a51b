"""The decision in the making: replaces frozen values, collects outputs, numbers and names events by their cause."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from contracts import (
    CancelJob,
    CreateJob,
    FileStatus,
    JobRequest,
    JobStage,
    ParentTask,
    StageReport,
    TaskStatus,
    derived,
)
from contracts.alfred import AlfredEvent
from contracts.file_events import FileAddToJob, FileFailed, FileStatusUpdate
from contracts.job_events import JobCreate, JobFinished, JobStageUpdate, JobStart
from contracts.stage import StageTask, TaskCancelled
from contracts.topics import (
    FILE_EVENTS_TOPIC,
    JOB_COMMANDS_TOPIC,
    JOB_EVENTS_TOPIC,
    STAGE_CANCELLATIONS_TOPIC,
    STAGE_REPORTS_TOPIC,
    TASK_PREFIX,
)
from contracts.work import MAX_FILES
from services.job_orchestrator.core.condition import ConditionFailed, moment
from services.job_orchestrator.core.condition_facts import facts
from services.job_orchestrator.core.job import JOB_BRANCH, Branch, BranchState, Decision, Job, Output, evolve, outputs_of
from services.job_orchestrator.core.task_inputs import child_id, files_of, made_of
from services.job_orchestrator.core.workflow import ChildJob, Wait

Credits = Callable[[str], int]
"""How many tasks of an action may be handed out to this job now."""
CHILD_ACTION = "job"
MAX_DEPTH = 10


def unlimited(action: str) -> int:
    """No limit: one credit more than a job can use."""
    return 1 << 30


class DecisionBuilder:
    """Works on one job for one event. `cause` is the id that all outputs' ids are derived from."""

    def __init__(self, job: Job, cause: str, now: datetime, credits: Credits = unlimited) -> None:
        self.job = job
        self._own = False
        self.branches = dict(job.branches)
        self.cause = cause
        self.now = now
        self.unix = now.timestamp()
        self.outputs: list[Output] = []
        self.credits = credits
        self.ended: dict[str, str | None] = {}
        """How the step ended that led to what follows: goes out with the next stage update."""
        self.freed: dict[str, int] = {}
        """Credits by action that this decision gave back, less those it took."""

    def decision(self) -> Decision:
        """The finished decision."""
        self.change(branches=self.branches, updated_at=self.now)
        return Decision(self.job, tuple(self.outputs))

    def change(self, **fields: Any) -> None:
        """Replace fields of the job. From the first change on it is a copy of the builder's own, which changes in place."""
        if not self._own:
            self.job = evolve(self.job, fields)
            self._own = True
        elif fields.keys() <= vars(self.job).keys():
            vars(self.job).update(fields)
        else:
            raise TypeError(f"Job has no field {', '.join(sorted(fields.keys() - vars(self.job).keys()))}")

    def put(self, branch: Branch, **fields: Any) -> Branch:
        """Replace fields of a branch and keep it."""
        branch = evolve(branch, fields)
        self.branches[branch.id] = branch
        return branch

    def job_event(self, model: type[AlfredEvent[Any]], step: str | None = None, **fields: Any) -> None:
        """Append a job event with the next sequence number."""
        job = self.job
        sequence = job.sequence + 1
        self.change(sequence=sequence)
        # Nothing in it is a worker's word: all of it was checked when it came, or is our own.
        told = {
            "company_id": job.owner.tenant_id, "company_name": job.owner.tenant_name, "sequence": sequence, "caused_by": self.cause,
            "workflow": job.workflow.ref, "step": step, "job_id": job.id, "deferred_session_id": job.session_id,
            "creation_date": job.created_at, "update_date": self.now, **fields,
        }  # fmt: skip
        event = model.fact(derived(self.cause, model.TYPE, sequence), self.unix, told)
        self.outputs.append(Output(JOB_EVENTS_TOPIC.name, event))

    def file_event(self, model: type[AlfredEvent[Any]], branch: Branch, role: str = "", **fields: Any) -> None:
        """Append a file event of a branch; `role` tells apart several of one type from one cause."""
        job = self.job
        event = model.of(
            event_id=derived(self.cause, model.TYPE, branch.id, role), at=self.now, company_id=job.owner.tenant_id,
            company_name=job.owner.tenant_name, caused_by=self.cause, workflow=job.workflow.ref,
            step=job.step_of(branch).name if branch.attempt else None, job_id=job.id, creation_date=job.created_at,
            update_date=self.now, **fields,
        )  # fmt: skip
        self.outputs.append(Output(FILE_EVENTS_TOPIC.name, event))

    def created(self, file_urls: tuple[str, ...]) -> None:
        """JobCreate and one FileAddToJob per file."""
        request = self.job.request
        self.job_event(
            JobCreate, user_name=self.job.owner.user_name, merge=request.merge, metadata=request.metadata,
            file_count=self.job.total, file_urls=file_urls, job_key=request.job_key, priority=request.priority,
            parent_job_id=self.job.parent.job_id if self.job.parent else None, rerun_of=self.job.rerun_of,
            start_at=request.start_at.timestamp() if request.start_at else None,
        )  # fmt: skip
        for branch in list(self.branches.values()):
            if branch.file is not None:
                f = branch.file
                self.file_event(
                    FileAddToJob, branch, file_id=f.file_id, file_name=f.file_name, file_size=f.size,
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
        self.job_event(JobStageUpdate, step=step, stage=stage, previous_stage=previous, **self.ended)

    def finished(self) -> None:
        """JobFinished, with the faults that best effort left behind."""
        job = self.job
        branch = self.branches.get(JOB_BRANCH)
        self.job_event(
            JobFinished, finished_files=job.done, failed_files=job.failed + job.invalid, error_messages=job.errors,
            outputs=outputs_of(branch) if branch is not None else None, file_ends=job.file_ends,
        )  # fmt: skip

    def ended_badly(self, model: type[AlfredEvent[Any]], **more: Any) -> None:
        """JobFailed, JobInvalid, JobRetry or JobExceededRetries: they share their fields."""
        job = self.job
        self.job_event(
            model, user_name=job.owner.user_name, merge=job.request.merge, metadata=job.request.metadata,
            file_count=job.total, retries=job.retries, exceeded_retries=job.exceeded_retries, **more,
        )  # fmt: skip

    def status(self, branch: Branch, status: FileStatus, role: str = "", **more: Any) -> Branch:
        """FileStatusUpdate, for file branches."""
        branch = self.put(branch, status=status)
        if branch.file is not None:
            self.file_event(
                FileStatusUpdate, branch, role, file_id=branch.file.file_id, blob_name=branch.file.blob_name or "",
                blob_url=branch.file.blob_url, tag_id=branch.tag, tag_name=branch.tag, file_status=status,
                classification_score=branch.score, **more,
            )  # fmt: skip
        return branch

    def file_failed(self, branch: Branch, status: FileStatus, code: str, message: str) -> None:
        """FileFailed, saying what the vendor's event cannot: which step, why, after how many attempts."""
        if branch.file is not None:
            self.file_event(
                FileFailed, branch, file_id=branch.file.file_id, blob_name=branch.file.blob_name or "",
                blob_url=branch.file.blob_url, tag_id=branch.tag, tag_name=branch.tag, file_status=status,
                classification_score=branch.score, code=code, message=message, attempts=branch.attempt,
            )  # fmt: skip

    def step_ended(self, branch: Branch, status: str, code: str | None, message: str | None) -> None:
        """Remember how a branch's step ended, for whoever asks why the job went where it goes."""
        step = self.job.step_of(branch).name
        self.ended = {"previous_step": step, "step_status": status, "step_code": code, "step_message": message}

    def note(self, verb: str, by: str, reason: str) -> None:
        """JobStageUpdate that says what somebody did to the job; it stays at its stage."""
        job = self.job
        step = job.workflow.all_steps[job.frontier].name if job.frontier >= 0 else None
        self.job_event(JobStageUpdate, step=step, stage=job.stage, previous_stage=job.stage, verb=verb, by=by, reason=reason)

    def bounded(self, branch: Branch, due: float | None) -> float | None:
        """`due`, or the end of the step's total time if that is earlier."""
        total = self.job.step_of(branch).timeouts.total_s
        if total is None or branch.entered_at is None:
            return due
        return min(due or float("inf"), branch.entered_at + total)

    def dispatch(self, branch: Branch, attempt: int, polls: int = 0) -> Branch:
        """Lease an attempt of the branch's step: to whichever worker takes it, once there is a credit for it; to time; to a child job."""
        step = self.job.step_of(branch)
        lease = derived(self.job.id, branch.id, step.name, attempt, polls, "lease")
        begun = {
            "attempt": attempt, "polls": polls, "waiting": False, "lease": lease, "worker": None, "started_at": None,
        }  # fmt: skip
        if step.action and self.job.paused_by is None and self.credits(step.action) + self.freed.get(step.action, 0) > 0:
            self.freed[step.action] = self.freed.get(step.action, 0) - 1
            return self.hand_out(branch, **begun)
        branch = self.put(branch, state=BranchState.READY, due_at=self.bounded(branch, None), since=self.unix, **begun)
        if step.wait is not None:
            return self._wait(branch, step.wait)
        return self._child(branch, step.job) if step.job is not None else branch

    def hand_out(self, branch: Branch, **begun: Any) -> Branch:
        """Give a branch's task to the workers; `begun` is what is new of its attempt, which was not ready before."""
        step = self.job.step_of(branch)
        due_at = self.bounded(branch, self.unix + step.timeouts.queued_s)
        branch = self.put(branch, state=BranchState.QUEUED, due_at=due_at, since=None, **begun)
        own = (self.job.request.args or {}).get(step.name)
        task = StageTask.trusted(
            task_id=derived(branch.lease, "task"), job_id=self.job.id, tenant_id=self.job.owner.tenant_id,
            file_id=branch.id or None, step=step.name, action=step.action, attempt=branch.attempt, lease=branch.lease, issued_at=self.now,
            file=branch.file, files=files_of(self.job, self.branches) if step.files and branch.id == JOB_BRANCH else None,
            polls=branch.polls or None, config={**step.config, **own} if own else step.config,
            inputs=dict(branch.results),
            timeout_s=step.timeouts.running_s, heartbeat_s=step.timeouts.heartbeat_s,
        )  # fmt: skip
        self.outputs.append(Output(TASK_PREFIX + step.action, task, command=True))
        return branch

    def _wait(self, branch: Branch, wait: Wait) -> Branch:
        due = None if wait.timeout_s is None else self.unix + wait.timeout_s
        if wait.kind == "time":
            due = self.unix + wait.for_s if wait.for_s is not None else moment(wait.until or "", facts(self.job, branch))
        return self.put(branch, state=BranchState.WAITING, due_at=self.bounded(branch, due), since=None)

    def _child(self, branch: Branch, child: ChildJob) -> Branch:
        """A job of its own, which reports its end to this branch's lease as a worker would."""
        job, step = self.job, self.job.step_of(branch)
        depth = job.parent.depth + 1 if job.parent else 1
        if depth > MAX_DEPTH:
            raise ConditionFailed(f"jobs are nested deeper than {MAX_DEPTH}")
        if child.outputs:
            files = made_of(self.job, self.branches, branch)
        else:
            files = tuple(
                x.file for x in ([branch] if branch.id else self.branches.values()) if x.file is not None and not x.ended
            )
        if len(files) > MAX_FILES:
            raise ConditionFailed(f"a job of its own takes at most {MAX_FILES} files, these are {len(files)}")
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
        return self.put(branch, state=BranchState.RUNNING, worker=f"job {child_id(branch)}", since=None)

    def tell_parent(self) -> None:
        """The job has ended: report it to the step of the other job that waits for it."""
        job, parent = self.job, self.job.parent
        if parent is None:
            return
        completed = job.stage is JobStage.COMPLETED
        result = {
            "job_id": job.id,
            "stage": job.stage.value,
            "finished_files": job.done,
            "failed_files": job.failed + job.invalid,
        }
        report = StageReport(
            report_id=derived(parent.lease, job.id, "end"), job_id=parent.job_id, tenant_id=job.owner.tenant_id,
            file_id=parent.file_id, step=parent.step, action=parent.action, attempt=parent.attempt, lease=parent.lease,
            reported_at=self.now, status=TaskStatus.OK if completed else TaskStatus.KO,
            code=None if completed else f"child_{job.stage.value}", worker=f"job {job.id}", result=result,
            message=None if completed else ("; ".join(job.errors) or f"job {job.id} is {job.stage.value}")[:4000],
        )  # fmt: skip
        self.outputs.append(Output(STAGE_REPORTS_TOPIC.name, report, command=True))

    def revoke(self, branch: Branch, reason: str) -> None:
        """Tell whoever has the branch's open attempt, or a job of its own, that it is no longer wanted."""
        step = self.job.step_of(branch)
        if step.job is not None:
            command = CancelJob(
                command_id=derived(branch.lease, "cancelled"), job_id=child_id(branch), owner=self.job.owner, issued_at=self.now,
                reason=f"job {self.job.id}: {reason}"[:1000],
            )  # fmt: skip
            self.outputs.append(Output(JOB_COMMANDS_TOPIC.name, command, command=True))
            return
        note = TaskCancelled(
            event_id=derived(branch.lease, "cancelled"), job_id=self.job.id, tenant_id=self.job.owner.tenant_id,
            file_id=branch.id or None, step=step.name, action=step.action, attempt=branch.attempt, lease=branch.lease,
            occurred_at=self.now, reason=reason,
        )  # fmt: skip
        self.outputs.append(Output(STAGE_CANCELLATIONS_TOPIC.name, note, command=True))
