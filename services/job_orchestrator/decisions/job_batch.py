"""The jobs of one transaction: loaded together, decided one after the other, given the free credits, and saved together."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from contracts import JobStage, StageTask
from services.job_orchestrator.core.decide import Granted, JobInput, Start, decide
from services.job_orchestrator.core.decision_builder import Credits, unlimited
from services.job_orchestrator.core.job import JOB_BRANCH, Decision, Job, NeedsAllBranches
from services.job_orchestrator.core.rerun import Rerun
from services.job_orchestrator.decisions.task_addresses import TaskAddresses
from services.job_orchestrator.dispatch.budget import Budget
from services.job_orchestrator.ports import JobStore
from shared.processing.unit_of_work import Unit
from shared.telemetry.logs import log_fields

log = logging.getLogger(__name__)


class JobBatch:
    """Loads the branches named in `wanted` (job id → branch ids). `loaded` holds every job as the last decision left it."""

    def __init__(
        self, unit: Unit, store: JobStore, budget: Budget, wanted: Mapping[str, set[str]], addresses: TaskAddresses
    ) -> None:
        self.unit = unit
        self.store = store
        self.budget = budget
        self.addresses = addresses
        self.loaded = store.load(wanted)
        self.now = datetime.fromtimestamp(unit.now, UTC)
        self._changed: dict[str, set[str]] = {}
        self._traces: dict[str, str | None] = {}

    def decide(self, job_id: str, event: JobInput, trace: str | None) -> Decision:
        """Decide one event, emit the messages that follow and keep the job. Returns the decision, also a refusal."""
        job = self.loaded.get(job_id)
        tenant = None if isinstance(event, Granted) else _tenant(job, event)
        credits: Credits = unlimited if tenant is None else self.budget.credits(tenant, job is None)
        try:
            decision = decide(job, event, self.now, credits)
        except NeedsAllBranches:
            assert job is not None
            job = self.store.with_all_branches(job)
            decision = decide(job, event, self.now, credits)
        if decision.refused is None and decision.job is not None:
            self._keep(job, decision, decision.job, trace)
        return decision

    def _keep(self, before: Job | None, decision: Decision, after: Job, trace: str | None) -> None:
        # First the messages: one that is too large dead-letters the event, and the job stays as it was.
        with self.unit.savepoint():
            for topic, message, command in decision.outputs:
                if isinstance(message, StageTask):
                    message = self.addresses.with_address(message, after)
                self.unit.emit(topic, message, trace, command)
        old = before.branches if before is not None else {}
        changed = {key for key, branch in after.branches.items() if old.get(key) is not branch}
        gone = old.keys() - after.branches.keys()
        if gone:
            self.store.drop_branches(after.id, gone)
            self._changed.get(after.id, set()).difference_update(gone)
        self.budget.apply(before, after, changed)
        self._changed.setdefault(after.id, set()).update(changed)
        self.loaded[after.id] = after
        self._traces.setdefault(after.id, trace)
        if after.ended and after.stage is not JobStage.COMPLETED:
            facts = {"stage": after.stage.value, "workflow": after.workflow.ref, "errors": len(after.errors)}
            log.warning("job ended badly", extra=log_fields(trace, after.id, **facts))

    def with_all_branches(self, job_id: str) -> Job | None:
        """A loaded job with every branch; None where there is no such job."""
        job = self.loaded.get(job_id)
        if job is None:
            return None
        job = self.loaded[job_id] = self.store.with_all_branches(job)
        return job

    def note_rerun(self, source: Job, job_id: str) -> None:
        """Note a new job at the job that it ran again, and at the jobs that one ran again: it may have kept their results."""
        earlier: Job | None = source
        while earlier is not None:
            self.loaded[earlier.id] = replace(self.loaded[earlier.id], reruns=(*earlier.reruns, job_id))
            self._changed.setdefault(earlier.id, set())
            if earlier.rerun_of is None:
                return
            self.add({earlier.rerun_of: {JOB_BRANCH}})
            earlier = self.loaded.get(earlier.rerun_of)

    def reruns_of(self, job: Job) -> list[Job]:
        """The jobs that ran this one again and are not erased, with all branches."""
        self.add({job_id: {JOB_BRANCH} for job_id in job.reruns})
        return [found for job_id in job.reruns if (found := self.with_all_branches(job_id)) is not None]

    def erase(self, job_id: str) -> None:
        """Delete a loaded job and its branches."""
        self.store.erase(job_id)
        self.loaded.pop(job_id, None)
        self._changed.pop(job_id, None)

    def add(self, wanted: Mapping[str, set[str]]) -> None:
        """Load further jobs, and further branches of loaded jobs."""
        self.loaded |= self.store.load({job_id: keys for job_id, keys in wanted.items() if job_id not in self.loaded})
        missing = {job_id: keys - self.loaded[job_id].branches.keys() for job_id, keys in wanted.items() if job_id in self.loaded}
        missing = {job_id: keys for job_id, keys in missing.items() if keys}
        if missing:
            for job_id, branches in self.store.load_branches(missing).items():
                job = self.loaded[job_id]
                self.loaded[job_id] = replace(job, branches={**branches, **job.branches})

    def finish(self) -> int:
        """Save everything and give out the credits that are free; returns how many."""
        self.budget.write()
        # Saved before the allocation, so that attempts of this transaction can get their credits in it.
        self._save()
        chosen = self.budget.allocate()
        wanted: dict[str, set[str]] = {}
        for ready in chosen:
            wanted.setdefault(ready.job_id, {JOB_BRANCH}).add(ready.branch_id)
        self.add(wanted)
        for ready in chosen:
            event = Granted(ready.job_id, ready.branch_id, ready.lease)
            if self.decide(ready.job_id, event, ready.trace or self._traces.get(ready.job_id)).refused is not None:
                self.budget.leaving.add((ready.job_id, ready.branch_id))
        self._save()
        self.budget.close()
        return len(chosen)

    def _save(self) -> None:
        if self._changed:
            self.store.save([(self.loaded[i], branches, self._traces.get(i)) for i, branches in self._changed.items()])
            self._changed.clear()


def _tenant(job: Job | None, event: JobInput) -> str | None:
    """The tenant whose credits the decision uses; None where there is no job to decide on."""
    if job is not None:
        return job.owner.tenant_id
    if isinstance(event, Start):
        return event.request.owner.tenant_id
    return event.command.owner.tenant_id if isinstance(event, Rerun) else None
