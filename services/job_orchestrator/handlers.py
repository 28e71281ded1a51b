"""Load, decide, save, emit: no business rule lives here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from contracts import (
    CancelJob,
    CreateJob,
    EraseJob,
    ExplainJob,
    Message,
    PauseJob,
    PokeJob,
    PublishWorkflow,
    RerunJob,
    ResumeJob,
    RetryJobNow,
    SessionClosed,
    SessionFiles,
    SetControl,
    StageReport,
    TaskStatus,
    TerminateJob,
    WorkerSeen,
)
from services.job_orchestrator.core.allocation import Control
from services.job_orchestrator.core.decide import BranchDue, JobInput, Start
from services.job_orchestrator.core.decision_builder import CHILD_ACTION
from services.job_orchestrator.core.explain import WORKER_ALIVE_S
from services.job_orchestrator.core.job import JOB_BRANCH
from services.job_orchestrator.core.rerun import Rerun
from services.job_orchestrator.decisions.erasure import erase
from services.job_orchestrator.decisions.job_batch import JobBatch
from services.job_orchestrator.decisions.replies import decided, explained, wasted
from services.job_orchestrator.dispatch.budget import Budget
from services.job_orchestrator.dispatch.rates import Rates
from services.job_orchestrator.ports import DispatchStore, JobStore, SteeringStore
from services.job_orchestrator.publishing.schedules import steer
from shared.errors import DeadLetter
from shared.processing.inbox import DedupPolicy, is_duplicate
from shared.processing.records import Inbound
from shared.processing.unit_of_work import Unit
from shared.telemetry.logs import log_fields

log = logging.getLogger(__name__)
VERBS: dict[type[Message], str] = {
    CancelJob: "cancel", TerminateJob: "terminate", PauseJob: "pause", ResumeJob: "resume", RetryJobNow: "retry", PokeJob: "poke",
}  # fmt: skip
ENDS = (TaskStatus.OK, TaskStatus.KO, TaskStatus.ERR, TaskStatus.SKIP)
"""What a report says that ends an attempt."""


def dedup_policy(message: Message) -> DedupPolicy:
    """How the inbox tells repeats. What ends an attempt ends its lease: sent twice, the second finds none, whatever its place."""
    ends = isinstance(message, StageReport) and message.status in ENDS
    return DedupPolicy.BY_OFFSET if ends else DedupPolicy.BY_ID


@dataclass
class Stores:
    """Opens the stores on a connection."""

    jobs: Callable[[Connection], JobStore]
    dispatch: Callable[[Connection], DispatchStore]
    steering: Callable[[Connection], SteeringStore]
    is_duplicate: Callable[[Connection, Inbound], bool] = is_duplicate
    """Whether a report that was refused is one that was sent before."""


@dataclass
class Orchestrator:
    """Handlers for the orchestrator's topics and timers."""

    stores: Stores
    rates: Rates = field(default_factory=Rates)
    grant_at: float | None = None
    """When a rate has its next token, as far as this process knows; 0 for at once."""

    def __post_init__(self) -> None:
        self.by_type: dict[type[Message], Callable[[JobBatch, Any, str | None], None]] = {
            SessionClosed: self._start, CreateJob: self._start, SessionFiles: self._files,
            RerunJob: self._rerun, ExplainJob: self._explain, EraseJob: self._erase, SetControl: self._control,
            WorkerSeen: self._seen, **dict.fromkeys(VERBS, self._verb),
        }  # fmt: skip

    def on_batch(self, unit: Unit, batch: Sequence[Inbound]) -> None:
        """`session.events`, `job.commands`, `stage.reports` and `stage.workers`."""
        wanted: dict[str, set[str]] = {}
        for item in batch:
            for job_id in _job_ids(item.message):
                wanted.setdefault(job_id, {JOB_BRANCH}).add(getattr(item.message, "file_id", None) or JOB_BRANCH)
        work = self._work(unit, wanted)
        for item in batch:
            with item.guard():
                self._one(work, item)
        self._finish(work)

    def _work(self, unit: Unit, wanted: dict[str, set[str]]) -> JobBatch:
        budget = Budget(self.stores.dispatch(unit.connection), unit.now)
        return JobBatch(unit, self.stores.jobs(unit.connection), budget, wanted)

    def _finish(self, work: JobBatch) -> int:
        given = work.finish()
        self.grant_at = 0.0 if work.budget.more else work.budget.blocked_until
        self.rates.add(work.budget, work.unit.now)
        return given

    def _one(self, work: JobBatch, item: Inbound) -> None:
        message: Any = item.message
        if isinstance(message, StageReport):
            self._report(work, message, item)
            return
        handle = self.by_type.get(type(message))
        if handle is not None:
            handle(work, message, item.trace)
        else:
            steer(work.unit, self.stores.steering(work.unit.connection), message, item.trace)

    def _files(self, work: JobBatch, message: SessionFiles, trace: str | None) -> None:
        if message.job_id not in work.jobs:
            work.store.keep_part(message.job_id, message.part, message.files)

    def _seen(self, work: JobBatch, message: WorkerSeen, trace: str | None) -> None:
        at = work.unit.now - WORKER_ALIVE_S if message.leaving else work.unit.now
        work.budget.store.seen(message.worker, message.actions, at, message.slots)

    def _erase(self, work: JobBatch, message: EraseJob, trace: str | None) -> None:
        job = work.jobs.get(message.job_id)
        decided(work.unit, message, "erase", erase(work, message, trace), trace, job)

    def _start(self, work: JobBatch, message: SessionClosed | CreateJob, trace: str | None) -> None:
        in_parts = isinstance(message, SessionClosed) and bool(message.parts) and message.job_id not in work.jobs
        if in_parts:
            message = message.model_copy(update={"files": work.store.parts(message.job_id) + message.files})
        workflow = work.store.workflow(message.job.workflow, message.job.workflow_version)
        refused = work.decide(message.job_id, Start(message, workflow), trace).refused
        if refused is not None and isinstance(message, CreateJob):
            decided(work.unit, message, "create", refused, trace)
        if in_parts:
            # Not before: a message that is parked must find them when it is sent again.
            work.store.drop_parts(message.job_id)

    def _report(self, work: JobBatch, report: StageReport, item: Inbound) -> None:
        if (
            report.worker
            and report.action != CHILD_ACTION
            and self.rates.sign_of_life(report.action, report.worker, work.unit.now)
        ):
            work.budget.store.seen(report.worker, (report.action,), work.unit.now, 0)
        trace = item.trace
        refused = work.decide(report.job_id, report, trace).refused
        if refused is None:
            return
        if refused == "unknown job":
            raise DeadLetter("unknown_job", f"job_id: there is no job {report.job_id}")
        if report.status in ENDS and self.stores.is_duplicate(work.unit.connection, item):
            # Its first sending was judged; no more work was done for the second.
            work.unit.telemetry.count("pipeline.inbox.duplicates", 1)
            return
        work.unit.telemetry.count("pipeline.reports.refused", 1, reason=refused)
        if report.status is not TaskStatus.RUN:
            self.rates.waste(report.action, report.tenant_id)
            wasted(work.unit, report, refused, trace)
        log.info("refused", extra=log_fields(trace, report.job_id, type=report.TYPE, reason=refused))

    def _verb(self, work: JobBatch, message: Any, trace: str | None) -> None:
        event: JobInput = message
        decision = work.decide(message.job_id, event, trace)
        decided(work.unit, message, VERBS[type(message)], decision.refused, trace, decision.job)
        facts = {"by": message.owner.user_name, "refused": decision.refused}
        log.info("command %s", VERBS[type(message)], extra=log_fields(trace, message.job_id, **facts))

    def _rerun(self, work: JobBatch, message: RerunJob, trace: str | None) -> None:
        source = work.whole(message.job_id)
        workflow = None
        if source is not None:
            workflow = work.store.workflow(source.workflow.name, message.workflow_version or source.workflow.version)
        decision = work.decide(message.new_job_id, Rerun(message, source, workflow), trace)
        made = decision.job if decision.job is not None and decision.job.rerun_of == message.job_id else None
        # The same command again finds the job it made: that is what it asked for.
        refused = None if decision.refused == "job exists" and made is not None else decision.refused
        decided(work.unit, message, "rerun", refused, trace, made)

    def _explain(self, work: JobBatch, message: ExplainJob, trace: str | None) -> None:
        job = work.whole(message.job_id)
        if job is None or job.owner.tenant_id != message.owner.tenant_id:
            decided(work.unit, message, "explain", "unknown job", trace)
            return
        explained(work.unit, message, job, work.budget, trace)

    def _control(self, work: JobBatch, message: SetControl, trace: str | None) -> None:
        key = (message.kind, message.name)
        given = message.model_dump(include={"paused", "limit", "rate_per_s", "burst", "weight"}, exclude_none=True)
        old = work.budget.controls.get(key, Control())
        by = {"by": message.owner.user_name, "reason": message.reason, "at": work.unit.now}
        cleared: dict[str, Any] = dict.fromkeys(message.clear)
        work.budget.set_control(key, replace(old, **{**by, **cleared, **given}))
        decided(work.unit, message, "control", None, trace)
        log.info("control of %s %s", *key, extra={**given, "clear": list(message.clear), "by": message.owner.user_name})

    def fire(self, unit: Unit, limit: int) -> int:
        """Timers that are due."""
        store = self.stores.jobs(unit.connection)
        # To the microsecond, as the decisions have it: a timer of this very instant must not be due here and void there.
        now = datetime.fromtimestamp(unit.now, UTC).timestamp()
        due = store.due(now, limit)
        wanted: dict[str, set[str]] = {}
        for event, _ in due:
            wanted.setdefault(event.job_id, {JOB_BRANCH}).add(event.branch_id)
        work = self._work(unit, wanted)
        void: list[BranchDue] = []
        for event, trace in due:
            if work.decide(event.job_id, event, trace).refused is not None:
                void.append(event)
        self._finish(work)
        store.clear_due(void, now)
        return len(due)

    def grant(self, unit: Unit, limit: int) -> int:
        """Credits that are free, where something waits for them and no batch came that gave them out."""
        return self._finish(self._work(unit, {}))


def _job_ids(message: Message) -> tuple[str, ...]:
    if isinstance(message, RerunJob):
        return (message.job_id, message.new_job_id)
    if isinstance(message, (PublishWorkflow, SetControl, WorkerSeen)):
        return ()
    job_id = getattr(message, "job_id", None)
    return (job_id,) if isinstance(job_id, str) else ()
