"""Handlers of the orchestrator's records and timers: load, decide, save, emit. The rules are in `core`.

`on_batch` takes records, `fire` timers that are due, and `grant` credits that are free. Each works on one `JobBatch`: jobs are loaded
together, decided one after the other, and saved together in the transaction of `unit`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from contracts import (
    CancelJob,
    CreateJob,
    DeleteSchedule,
    DeleteWorkflow,
    EraseJob,
    ExplainJob,
    FileCommand,
    FindReferences,
    Message,
    MoveFile,
    PauseJob,
    PokeJob,
    PublishWorkflow,
    RerunJob,
    ResumeJob,
    RetryJobNow,
    SessionClosed,
    SessionErased,
    SessionFiles,
    SetControl,
    SetSchedule,
    StageReport,
    TaskStatus,
    TerminateJob,
    WorkerSeen,
)
from contracts.topics import JOB_COMMANDS_TOPIC, is_operators
from services.job_orchestrator.core.allocation import Control
from services.job_orchestrator.core.decide import BranchDue, Start
from services.job_orchestrator.core.decision_builder import CHILD_ACTION
from services.job_orchestrator.core.explain import WORKER_ALIVE_S
from services.job_orchestrator.core.job import JOB_BRANCH, Job
from services.job_orchestrator.core.rerun import Rerun
from services.job_orchestrator.decisions.erasure import erase
from services.job_orchestrator.decisions.file_changes import FILE_VERBS, decide_file_command
from services.job_orchestrator.decisions.job_batch import JobBatch
from services.job_orchestrator.decisions.replies import OTHER_TOPIC, answer, explain_job, refuse_report
from services.job_orchestrator.decisions.task_addresses import TaskAddresses
from services.job_orchestrator.dispatch.budget import Budget
from services.job_orchestrator.dispatch.dispatcher import Dispatcher
from services.job_orchestrator.ports import Stores
from services.job_orchestrator.publishing.schedules import delete_schedule, set_schedule
from services.job_orchestrator.publishing.seal_keys import destroy_keys_of, destroy_keys_of_session
from services.job_orchestrator.publishing.workflows import delete_workflow, request_workflow
from shared.errors import DeadLetter
from shared.processing.inbox import forget_parked
from shared.processing.records import Inbound
from shared.processing.unit_of_work import Unit
from shared.telemetry.logs import log_fields

log = logging.getLogger(__name__)
VERBS: dict[type[Message], str] = {
    CancelJob: "cancel", TerminateJob: "terminate", PauseJob: "pause", ResumeJob: "resume", RetryJobNow: "retry", PokeJob: "poke",
}  # fmt: skip
"""Commands that change a running job, with the word that their answers carry."""
OTHER_VERBS: dict[type[Message], str] = {
    RerunJob: "rerun", EraseJob: "erase", SetControl: "control", PublishWorkflow: "publish", SetSchedule: "schedule", DeleteSchedule: "unschedule",
}  # fmt: skip
"""The other commands of operators, with the word that their answers carry."""


@dataclass
class Orchestrator:
    """Handlers that share the stores and what this process knows about dispatch."""

    stores: Stores
    protected: frozenset[str] = frozenset()
    """Workflows that come from files: they cannot be deleted."""
    unsent: Callable[[str], str | None] = lambda action: None
    """Why Kafka does not take tasks of an action; None while it does."""
    addresses: TaskAddresses = field(default_factory=lambda: TaskAddresses(None, None))
    """Makes the addresses in tasks of workers outside."""
    dispatcher: Dispatcher = field(init=False)

    def __post_init__(self) -> None:
        self.dispatcher = Dispatcher(self.stores.dispatch)
        self._handlers: dict[type[Message], Callable[[JobBatch, Any, str | None], None]] = {
            SessionFiles: self._keep_part, SessionClosed: self._start, SessionErased: self._session_erased, CreateJob: self._start, RerunJob: self._rerun,
            EraseJob: self._erase, ExplainJob: self._explain, SetControl: self._set_control, WorkerSeen: self._worker_seen,
            PublishWorkflow: self._publish_workflow, DeleteWorkflow: self._delete_workflow, FindReferences: self._find_references,
            SetSchedule: self._set_schedule, DeleteSchedule: self._delete_schedule,
            **dict.fromkeys(VERBS, self._verb), **dict.fromkeys(FILE_VERBS, self._file_command),
        }  # fmt: skip

    def on_batch(self, unit: Unit, batch: Sequence[Inbound]) -> None:
        """Handle `session.events`, `job.commands`, `operator.commands`, `stage.reports` and `stage.workers`. Other types on these topics are ignored."""
        wanted: dict[str, set[str]] = {}
        for record in batch:
            for job_id in _job_ids(record.message):
                wanted.setdefault(job_id, {JOB_BRANCH}).add(getattr(record.message, "file_id", None) or JOB_BRANCH)
        jobs = self._open(unit, wanted)
        for record in batch:
            with record.guard():
                self._handle(jobs, record)
        self._close(jobs)

    def fire(self, unit: Unit, limit: int) -> int:
        """Handle up to `limit` timers that are due; returns how many."""
        store = self.stores.jobs(unit.connection)
        # Timers are kept to the microsecond, as the decisions see time: a timer of this very instant must be due for both.
        now = datetime.fromtimestamp(unit.now, UTC).timestamp()
        due = store.due_timers(now, limit)
        wanted: dict[str, set[str]] = {}
        for event, _ in due:
            wanted.setdefault(event.job_id, {JOB_BRANCH}).add(event.branch_id)
        jobs = self._open(unit, wanted)
        void: list[BranchDue] = []
        for event, trace in due:
            if jobs.decide(event.job_id, event, trace).refused is not None:
                void.append(event)
        self._close(jobs)
        store.clear_timers(void, now)
        return len(due)

    def grant(self, unit: Unit, limit: int) -> int:
        """Give out credits that are free while no batch arrives to do it; returns how many."""
        return self._close(self._open(unit, {}))

    def _open(self, unit: Unit, wanted: dict[str, set[str]]) -> JobBatch:
        budget = Budget(self.stores.dispatch(unit.connection), unit.now)
        return JobBatch(unit, self.stores.jobs(unit.connection), budget, wanted, self.addresses)

    def _close(self, jobs: JobBatch) -> int:
        given = jobs.finish()
        self.dispatcher.record(jobs.budget, jobs.unit.now)
        return given

    def _handle(self, jobs: JobBatch, record: Inbound) -> None:
        if isinstance(record.message, StageReport):
            self._report(jobs, record.message, record)
            return
        handler = self._handlers.get(type(record.message))
        if handler is None:
            return
        if record.topic == JOB_COMMANDS_TOPIC.name and is_operators(record.message):
            self._other_topic(jobs.unit, record)
        else:
            handler(jobs, record.message, record.trace)

    def _other_topic(self, unit: Unit, record: Inbound) -> None:
        """Refuse an operator's command from a topic that producers may write."""
        message = record.message
        # Without a mark in the inbox: the same command has its effect when its sender repeats it on the right topic.
        forget_parked(unit, [record])
        verb = (VERBS | OTHER_VERBS | FILE_VERBS).get(type(message), "command")
        answer(unit, message, verb, OTHER_TOPIC, record.trace)
        unit.telemetry.count("pipeline.commands.refused", 1, reason=OTHER_TOPIC)
        log.warning(
            "operator's command refused", extra=log_fields(record.trace, getattr(message, "job_id", None), type=message.TYPE)
        )

    # Jobs begin, and begin again.

    def _keep_part(self, jobs: JobBatch, message: SessionFiles, trace: str | None) -> None:
        if message.job_id not in jobs.loaded:
            jobs.store.save_part(message.job_id, message.part, message.files)

    def _start(self, jobs: JobBatch, message: SessionClosed | CreateJob, trace: str | None) -> None:
        in_parts = isinstance(message, SessionClosed) and bool(message.parts) and message.job_id not in jobs.loaded
        if in_parts:
            message = message.model_copy(update={"files": jobs.store.parts(message.job_id) + message.files})
        workflow = jobs.store.workflow(message.job.workflow, message.job.workflow_version)
        refused = jobs.decide(message.job_id, Start(message, workflow), trace).refused
        if refused is not None and isinstance(message, CreateJob):
            answer(jobs.unit, message, "create", refused, trace)
        if in_parts:
            # Only after the decision: a message that is dead-lettered needs its parts when it is sent again.
            jobs.store.drop_parts(message.job_id)

    def _rerun(self, jobs: JobBatch, message: RerunJob, trace: str | None) -> None:
        source = jobs.with_all_branches(message.job_id)
        workflow = None
        if source is not None:
            workflow = jobs.store.workflow(source.workflow.name, message.workflow_version or source.workflow.version)
        decision = jobs.decide(message.new_job_id, Rerun(message, source, workflow), trace)
        made = decision.job if decision.job is not None and _is_rerun(decision.job, message) else None
        # A repeated command finds the job that it made the first time. That is success.
        refused = None if decision.refused == "job exists" and made is not None else decision.refused
        if decision.refused is None and source is not None and made is not None:
            jobs.note_rerun(source, made.id)
        answer(jobs.unit, message, "rerun", refused, trace, made, message=decision.why)

    # Jobs run.

    def _report(self, jobs: JobBatch, report: StageReport, record: Inbound) -> None:
        rates, now = self.dispatcher.rates, jobs.unit.now
        worker = report.worker if report.action != CHILD_ACTION else None
        if worker and rates.sign_of_life(report.action, worker, now):
            jobs.budget.store.worker_seen(worker, (report.action,), now, 0)
        refused = jobs.decide(report.job_id, report, record.trace).refused
        if refused == "unknown job":
            raise DeadLetter("unknown_job", f"job_id: there is no job {report.job_id}")
        if refused is not None:
            self._refused(jobs.unit, report, refused, record)

    def _refused(self, unit: Unit, report: StageReport, refused: str, record: Inbound) -> None:
        unit.telemetry.count("pipeline.reports.refused", 1, reason=refused)
        if report.status is not TaskStatus.RUN:
            self.dispatcher.rates.waste(report.action, report.tenant_id)
            refuse_report(unit, report, refused, record.trace)
        log.info("report refused", extra=log_fields(record.trace, report.job_id, type=report.TYPE, reason=refused))

    def _verb(self, jobs: JobBatch, message: Any, trace: str | None) -> None:
        verb = VERBS[type(message)]
        decision = jobs.decide(message.job_id, message, trace)
        answer(jobs.unit, message, verb, decision.refused, trace, decision.job, message=decision.why)
        facts = {"by": message.owner.user_name, "refused": decision.refused}
        log.info("command %s", verb, extra=log_fields(trace, message.job_id, **facts))

    def _file_command(self, jobs: JobBatch, message: FileCommand, trace: str | None) -> None:
        decide_file_command(jobs, message, trace)

    def _explain(self, jobs: JobBatch, message: ExplainJob, trace: str | None) -> None:
        job = jobs.with_all_branches(message.job_id)
        if job is None or job.owner.tenant_id != message.owner.tenant_id:
            answer(jobs.unit, message, "explain", "unknown job", trace)
        else:
            explain_job(jobs.unit, message, job, jobs.budget, trace, self.unsent)

    def _erase(self, jobs: JobBatch, message: EraseJob, trace: str | None) -> None:
        job = jobs.loaded.get(message.job_id)
        refused = erase(jobs, message, trace)
        if refused is None and job is not None:
            destroy_keys_of(jobs.unit, self.stores.seals(jobs.unit.connection), job)
        answer(jobs.unit, message, "erase", refused, trace, job)

    def _session_erased(self, jobs: JobBatch, message: SessionErased, trace: str | None) -> None:
        destroy_keys_of_session(jobs.unit, self.stores.seals(jobs.unit.connection), message.session_id)

    # Dispatch, workflows and schedules.

    def _set_control(self, jobs: JobBatch, message: SetControl, trace: str | None) -> None:
        key = (message.kind, message.name)
        given = message.model_dump(include={"paused", "limit", "rate_per_s", "burst", "weight"}, exclude_none=True)
        old = jobs.budget.controls.get(key, Control())
        by = {"by": message.owner.user_name, "reason": message.reason, "at": jobs.unit.now}
        cleared: dict[str, Any] = dict.fromkeys(message.clear)
        jobs.budget.set_control(key, replace(old, **{**by, **cleared, **given}))
        answer(jobs.unit, message, "control", None, trace)
        log.info("control of %s %s", *key, extra={**given, "clear": list(message.clear), "by": message.owner.user_name})

    def _worker_seen(self, jobs: JobBatch, message: WorkerSeen, trace: str | None) -> None:
        at = jobs.unit.now - WORKER_ALIVE_S if message.leaving else jobs.unit.now
        jobs.budget.store.worker_seen(message.worker, message.actions, at, message.slots)

    def _publish_workflow(self, jobs: JobBatch, message: PublishWorkflow, trace: str | None) -> None:
        request_workflow(jobs.unit, self.stores.steering(jobs.unit.connection), message, trace)

    def _delete_workflow(self, jobs: JobBatch, message: DeleteWorkflow, trace: str | None) -> None:
        delete_workflow(jobs.unit, self.stores.steering(jobs.unit.connection), message, self.protected, trace)

    def _find_references(self, jobs: JobBatch, message: FindReferences, trace: str | None) -> None:
        self.stores.steering(jobs.unit.connection).ask_references(message)

    def _set_schedule(self, jobs: JobBatch, message: SetSchedule, trace: str | None) -> None:
        workflow = jobs.store.workflow(message.job.workflow, message.job.workflow_version)
        set_schedule(jobs.unit, self.stores.steering(jobs.unit.connection), workflow, message, trace)

    def _delete_schedule(self, jobs: JobBatch, message: DeleteSchedule, trace: str | None) -> None:
        delete_schedule(jobs.unit, self.stores.steering(jobs.unit.connection), message, trace)


def _is_rerun(job: Job, command: RerunJob) -> bool:
    """True when the command made this job. Another tenant's command with the same ids did not."""
    return job.rerun_of == command.job_id and job.owner.tenant_id == command.owner.tenant_id


def _job_ids(message: Message) -> tuple[str, ...]:
    """Jobs that `message` concerns: they are loaded before it is handled."""
    if isinstance(message, RerunJob):
        return (message.job_id, message.new_job_id)
    if isinstance(message, (PublishWorkflow, DeleteWorkflow, FindReferences, SetControl, WorkerSeen)):
        return ()
    if isinstance(message, MoveFile):
        return (message.job_id, message.to_job_id)
    job_id = getattr(message, "job_id", None)
    return (job_id,) if isinstance(job_id, str) else ()
