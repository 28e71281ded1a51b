"""Load, decide, save, emit: no business rule lives here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection

from contracts import CancelJob, CreateJob, JobStage, Message, SessionClosed, StageReport
from services.job_orchestrator.core.decide import JobInput, LaneDue, Start, decide
from services.job_orchestrator.core.job import JOB_LANE, Decision, Job, NeedsAllLanes
from services.job_orchestrator.ports import JobStore
from shared.errors import Park
from shared.logs import about
from shared.settle import Inbound
from shared.unit import Unit

log = logging.getLogger(__name__)


class Work:
    """One transaction's jobs in memory: decided one after the other, written once."""

    def __init__(self, unit: Unit, store: JobStore, jobs: dict[str, Job]) -> None:
        self.unit = unit
        self.store = store
        self.jobs = jobs
        self.now = datetime.fromtimestamp(unit.now, UTC)
        self.touched: dict[str, set[str]] = {}
        self.traces: dict[str, str | None] = {}

    def decide(self, job_id: str, event: JobInput, trace: str | None) -> Decision:
        """Decide one event and keep what follows."""
        job = self.jobs.get(job_id)
        try:
            decision = decide(job, event, self.now)
        except NeedsAllLanes:
            assert job is not None
            job = self.store.with_all_lanes(job)
            decision = decide(job, event, self.now)
        if decision.refused is None and decision.job is not None:
            before = job.lanes if job is not None else {}
            # First what may still be refused for its size; a parked message leaves the job as it was.
            with self.unit.together():
                for output in decision.outputs:
                    self.unit.emit(output.topic, output.message, trace, output.command)
            changed = {key for key, lane in decision.job.lanes.items() if before.get(key) is not lane}
            self.touched.setdefault(job_id, set()).update(changed)
            self.jobs[job_id] = decision.job
            if decision.job.ended and decision.job.stage is not JobStage.COMPLETED:
                facts = {
                    "stage": decision.job.stage.value,
                    "workflow": decision.job.workflow.ref,
                    "errors": len(decision.job.errors),
                }
                log.warning("job ended badly", extra=about(trace, job_id, **facts))
            self.traces.setdefault(job_id, trace)
        return decision

    def save(self) -> None:
        """Write what changed."""
        self.store.save((self.jobs[i], lanes, self.traces.get(i)) for i, lanes in self.touched.items())


class Orchestrator:
    """Handlers for the orchestrator's topics and timers. `stores` opens a `JobStore` on a connection."""

    def __init__(self, stores: Callable[[Connection], JobStore]) -> None:
        self.stores = stores

    def on_batch(self, unit: Unit, batch: Sequence[Inbound]) -> None:
        """`session.events`, `job.commands` and `stage.reports`."""
        store = self.stores(unit.connection)
        wanted: dict[str, set[str]] = {}
        for item in batch:
            job_id = _job_id(item.message)
            if job_id is not None:
                wanted.setdefault(job_id, {JOB_LANE}).add(getattr(item.message, "file_id", None) or JOB_LANE)
        work = Work(unit, store, store.load(wanted))
        for item in batch:
            with item.guard():
                self._one(work, item)
        work.save()

    def _one(self, work: Work, item: Inbound) -> None:
        message = item.message
        if isinstance(message, (SessionClosed, CreateJob)):
            workflow = work.store.workflow(message.job.workflow, message.job.workflow_version)
            work.decide(message.job_id, Start(message, workflow), item.trace)
        elif isinstance(message, (StageReport, CancelJob)):
            decision = work.decide(message.job_id, message, item.trace)
            if decision.refused is not None:
                self._refused(work.unit, message, decision.refused, item.trace)

    def _refused(self, unit: Unit, message: StageReport | CancelJob, reason: str, trace: str | None) -> None:
        if reason == "unknown job":
            raise Park("unknown_job", f"job_id: there is no job {message.job_id}")
        if isinstance(message, StageReport):
            unit.telemetry.count("pipeline.reports.refused", 1, reason=reason)
        log.info("refused", extra=about(trace, message.job_id, type=message.TYPE, reason=reason))

    def fire(self, unit: Unit, limit: int) -> int:
        """Timers that are due."""
        store = self.stores(unit.connection)
        due = store.due(unit.now, limit)
        wanted: dict[str, set[str]] = {}
        for event, _ in due:
            wanted.setdefault(event.job_id, {JOB_LANE}).add(event.lane_id)
        work = Work(unit, store, store.load(wanted))
        void: list[LaneDue] = []
        for event, trace in due:
            if work.decide(event.job_id, event, trace).refused is not None:
                void.append(event)
        work.save()
        store.clear_due(void, unit.now)
        return len(due)


def _job_id(message: Message) -> str | None:
    if isinstance(message, (SessionClosed, CreateJob, StageReport, CancelJob)):
        return message.job_id
    return None
