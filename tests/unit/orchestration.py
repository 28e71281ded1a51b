"""Drives `decide` in tests: one job, a clock, and the collected decisions."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from contracts import (
    CancelJob,
    CreateJob,
    FileRef,
    JobRequest,
    JobStage,
    Message,
    PauseJob,
    PokeJob,
    RerunJob,
    ResumeJob,
    RetryJobNow,
    StageReport,
    StageTask,
    TaskStatus,
    Tenancy,
    TerminateJob,
    derived,
)
from contracts.alfred import AlfredEvent
from contracts.stage import TaskCancelled
from services.ingest.core.job_end import ends_file
from services.job_orchestrator.core.decide import BranchDue, Granted, JobInput, Start, decide
from services.job_orchestrator.core.decision_builder import unlimited
from services.job_orchestrator.core.job import JOB_BRANCH, Branch, Decision, Job
from services.job_orchestrator.core.rerun import Rerun
from services.job_orchestrator.core.workflow import Workflow

OWNER = Tenancy(tenant_id="t1", tenant_name="Tenant", user_name="ann")


def workflow(*steps: dict[str, Any], join: str = "best_effort", **more: Any) -> Workflow:
    """A workflow of steps; `name` and `action` default to the position."""
    full = [{"name": f"s{i}", **({} if "wait" in s or "job" in s else {"action": f"a{i}"}), **s} for i, s in enumerate(steps)]
    return Workflow.model_validate({"name": "w", "version": 1, "join": join, "steps": full, **more})


class Drive:
    """One job under test. Checks the invariants after each decision."""

    def __init__(self, flow: Workflow, files: int = 1, job_id: str = "job-1", **request: Any) -> None:
        self.flow = flow
        self.job: Job | None = None
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.events: list[AlfredEvent[Any]] = []
        self.tasks: list[StageTask] = []
        self.revoked: list[TaskCancelled] = []
        self.ids: set[str] = set()
        self.sent: list[Message] = []
        self.credits = unlimited
        self.commands = 0
        refs = tuple(FileRef(file_id=f"f{i}", file_name=f"file{i}.pdf", blob_name=f"t1/{i}") for i in range(files))
        command = CreateJob(
            command_id=f"c-{job_id}",
            job_id=job_id,
            owner=OWNER,
            issued_at=self.now,
            job=JobRequest(workflow="w", **request),
            files=refs,
        )
        self.start = Start(command, flow)

    def feed(self, event: JobInput) -> Decision:
        """Decide `event` now."""
        decision = decide(self.job, event, self.now, self.credits)
        if decision.refused is not None:
            assert decision.job is self.job and not decision.outputs
            return decision
        assert decision == decide(self.job, event, self.now, self.credits), "the same input must decide the same"
        ended_before = self.job is not None and self.job.ended
        assert not ended_before, "an ended job changed"
        self.job = decision.job
        for output in decision.outputs:
            message = output.message
            assert message.message_id not in self.ids, f"{message.TYPE} repeats an id"
            self.ids.add(message.message_id)
            self.sent.append(message)
            if isinstance(message, AlfredEvent):
                self.events.append(message)
            elif isinstance(message, StageTask):
                self.tasks.append(message)
            elif isinstance(message, TaskCancelled):
                self.revoked.append(message)
        self.check()
        return decision

    def check(self) -> None:
        """Invariants S3, S4, S11 of the reliability notes."""
        assert self.job is not None
        sequences = [e.event.sequence for e in self.events if e.event.KIND == "job_event"]
        assert sequences == list(range(1, len(sequences) + 1))
        ends = [n for n in self.names() if n in ("job_finished_event", "job_failed_event", "job_invalid_event")]
        assert len(ends) == (1 if self.job.ended else 0)
        file_ends = sum(1 for e in self.events if e.event.KIND != "job_event" and ends_file(e))
        assert file_ends == self.job.file_ends, "a file ends by one event"
        assert not ends or self.events[-1].event.file_ends == file_ends, "and the job's last event says how many have"
        stage = JobStage.QUEUED
        for e in self.events:
            if e.event.NAME == "job_start_event":
                stage = JobStage.STARTED
            if e.event.NAME == "job_stage_update_event":
                assert e.event.previous_stage == stage
                stage = e.event.stage
        assert stage == self.job.stage
        for branch in self.job.branches.values():
            assert branch.attempt <= self.job.step_of(branch).retry.max_attempts
            assert not (self.job.ended and branch.due_at is not None), "a timer outlives the job"

    def report(self, task: StageTask, status: TaskStatus = TaskStatus.OK, **more: Any) -> Decision:
        """Report on a task, as its worker."""
        role = derived(task.lease, status.value, str(len(self.events)))
        fields = task.model_dump(include={"job_id", "tenant_id", "file_id", "step", "action", "attempt", "lease"})
        return self.feed(StageReport(report_id=role, reported_at=self.now, status=status, **{**fields, **more}))

    def due(self, branch_id: str = "f0") -> Decision:
        """Move the clock to the branch's timer and fire it."""
        branch = self.branch(branch_id)
        assert branch.due_at is not None
        self.now = max(self.now, datetime.fromtimestamp(branch.due_at, UTC) + timedelta(milliseconds=1))
        return self.feed(BranchDue(self.job.id if self.job else "", branch_id, branch.lease))

    def cancel(self, tenant: str = "t1") -> Decision:
        """Cancel the job, as its owner or as another tenant."""
        owner = replace_tenant(tenant)
        return self.feed(CancelJob(command_id="cancel", job_id="job-1", owner=owner, issued_at=self.now, reason="enough"))

    def verb(self, kind: type[Message], tenant: str = "t1", **fields: Any) -> Decision:
        """An operator's command."""
        self.commands += 1
        owner = replace_tenant(tenant)
        command = kind(command_id=f"verb-{self.commands}", job_id="job-1", owner=owner, issued_at=self.now, **fields)
        assert isinstance(command, (PauseJob, ResumeJob, TerminateJob, RetryJobNow, PokeJob))
        return self.feed(command)

    def grant(self, branch_id: str = "f0") -> Decision:
        """A credit for a branch that is ready."""
        return self.feed(Granted("job-1", branch_id, self.branch(branch_id).lease))

    def rerun(self, flow: Workflow | None = None, **fields: Any) -> tuple[Drive, Decision]:
        """Rerun the job; returns the drive of the new job."""
        command = RerunJob(command_id="rerun", job_id="job-1", owner=OWNER, issued_at=self.now, new_job_id="job-2", **fields)
        other = Drive(flow or self.flow, job_id="job-2")
        other.now = self.now
        return other, other.feed(Rerun(command, self.job, flow or self.flow))

    def branch(self, branch_id: str) -> Branch:
        """A branch as it is now."""
        assert self.job is not None
        return self.job.branches[branch_id]

    def names(self) -> list[str]:
        """Names of all events so far."""
        return [e.event.NAME for e in self.events]

    def stages(self) -> list[str]:
        """Stages of all JobStageUpdates so far."""
        return [e.event.stage.value for e in self.events if e.event.NAME == "job_stage_update_event"]

    def unloaded(self, *keep: str) -> None:
        """Drop all branches but some, as a store that loads only what an event concerns."""
        assert self.job is not None
        self.job = replace(self.job, branches={k: v for k, v in self.job.branches.items() if k in (*keep, JOB_BRANCH)})


def replace_tenant(tenant: str) -> Tenancy:
    """The owner under another tenant."""
    return Tenancy(tenant_id=tenant, tenant_name="x", user_name="ann")
