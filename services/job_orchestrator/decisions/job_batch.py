"""One transaction's jobs in memory: decided one after the other, written once, and given the credits that are free."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from contracts import JobStage
from services.job_orchestrator.core.decide import Granted, JobInput, Start, decide
from services.job_orchestrator.core.decision_builder import Credits, unlimited
from services.job_orchestrator.core.job import JOB_BRANCH, Decision, Job, NeedsAllBranches
from services.job_orchestrator.core.rerun import Rerun
from services.job_orchestrator.dispatch.budget import Budget
from services.job_orchestrator.ports import JobStore
from shared.processing.unit_of_work import Unit
from shared.telemetry.logs import log_fields

log = logging.getLogger(__name__)


class JobBatch:
    """`wanted`: which branches of which jobs to load at the start."""

    def __init__(self, unit: Unit, store: JobStore, budget: Budget, wanted: Mapping[str, set[str]]) -> None:
        self.unit = unit
        self.store = store
        self.budget = budget
        self.jobs = store.load(wanted)
        self.now = datetime.fromtimestamp(unit.now, UTC)
        self.touched: dict[str, set[str]] = {}
        self.traces: dict[str, str | None] = {}

    def decide(self, job_id: str, event: JobInput, trace: str | None) -> Decision:
        """Decide one event and keep what follows."""
        job = self.jobs.get(job_id)
        credits: Credits = unlimited
        if not isinstance(event, Granted):
            tenant = _tenant(job, event)
            credits = self.budget.credits(tenant, job is None) if tenant else unlimited
        try:
            decision = decide(job, event, self.now, credits)
        except NeedsAllBranches:
            assert job is not None
            job = self.store.with_all_branches(job)
            decision = decide(job, event, self.now, credits)
        if decision.refused is None and decision.job is not None:
            self._keep(job, decision, trace)
        return decision

    def _keep(self, job: Job | None, decision: Decision, trace: str | None) -> None:
        after = decision.job
        assert after is not None
        before = job.branches if job is not None else {}
        # First what may still be refused for its size; a parked message leaves the job as it was.
        with self.unit.savepoint():
            for topic, message, command in decision.outputs:
                self.unit.emit(topic, message, trace, command)
        changed = {key for key, branch in after.branches.items() if before.get(key) is not branch}
        self.budget.apply(job, after, changed)
        self.touched.setdefault(after.id, set()).update(changed)
        self.jobs[after.id] = after
        self.traces.setdefault(after.id, trace)
        if after.ended and after.stage is not JobStage.COMPLETED:
            facts = {"stage": after.stage.value, "workflow": after.workflow.ref, "errors": len(after.errors)}
            log.warning("job ended badly", extra=log_fields(trace, after.id, **facts))

    def whole(self, job_id: str) -> Job | None:
        """A job that is loaded, with all of its branches."""
        job = self.jobs.get(job_id)
        if job is None:
            return None
        job = self.jobs[job_id] = self.store.with_all_branches(job)
        return job

    def forget(self, job_id: str) -> None:
        """Erase a job that is loaded."""
        self.store.erase(job_id)
        self.jobs.pop(job_id, None)
        self.touched.pop(job_id, None)

    def add(self, wanted: Mapping[str, set[str]]) -> None:
        """Load further branches of further jobs."""
        unknown = {job_id: branches for job_id, branches in wanted.items() if job_id not in self.jobs}
        self.jobs |= self.store.load(unknown)
        lacking = {i: branches - self.jobs[i].branches.keys() for i, branches in wanted.items() if i in self.jobs}
        lacking = {job_id: branches for job_id, branches in lacking.items() if branches}
        if lacking:
            for job_id, branches in self.store.branches(lacking).items():
                job = self.jobs[job_id]
                self.jobs[job_id] = replace(job, branches={**branches, **job.branches})

    def finish(self) -> int:
        """Give out the credits that are free, and write everything. Returns how many were given."""
        self.budget.write()
        # Written before the allocation: what is new in this transaction may be given its credits in it.
        self._save()
        chosen = self.budget.allocate()
        wanted: dict[str, set[str]] = {}
        for ready in chosen:
            wanted.setdefault(ready.job_id, {JOB_BRANCH}).add(ready.branch_id)
        self.add(wanted)
        for ready in chosen:
            event = Granted(ready.job_id, ready.branch_id, ready.lease)
            if self.decide(ready.job_id, event, ready.trace or self.traces.get(ready.job_id)).refused is not None:
                self.budget.leaving.add((ready.job_id, ready.branch_id))
        self._save()
        self.budget.close()
        return len(chosen)

    def _save(self) -> None:
        self.store.save([(self.jobs[i], branches, self.traces.get(i)) for i, branches in self.touched.items()])
        self.touched.clear()


def _tenant(job: Job | None, event: JobInput) -> str | None:
    if job is not None:
        return job.owner.tenant_id
    if isinstance(event, Start):
        return event.request.owner.tenant_id
    return event.command.owner.tenant_id if isinstance(event, Rerun) else None
