"""Answers to commands on `job.answers`, and refused reports on `stage.refusals`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from contracts import CommandDecided, JobExplained, Message, ReportRefused, StageReport, derived
from contracts.topics import JOB_ANSWERS_TOPIC, STAGE_REFUSALS_TOPIC
from services.job_orchestrator.core.allocation import rank
from services.job_orchestrator.core.explain import Facts, Reason, approvals, explain
from services.job_orchestrator.core.job import Job
from services.job_orchestrator.dispatch.budget import Budget
from shared.processing.unit_of_work import Unit

OTHER_TOPIC = "operator topic"
"""Why an operator's command on `job.commands` is refused."""
MESSAGES = {
    "unknown job": "there is no such job",
    "job has ended": "the job has ended",
    "job has not ended": "the job has not ended; cancel it first",
    "job is paused": "the job is paused already",
    "job is not paused": "the job is not paused",
    "job exists": "the id cannot be used for a new job",
    "nothing waits for a retry": "no attempt of the job is in back-off",
    "nothing waits for it": "no step of the job waits for this",
    "approval is for operators": "the step waits for an approval: that is for operators",
    "nothing to run again": "no file of the job is one that this would run again",
    "unknown step": "from_step: the workflow has no such step",
    "unknown file": "file_ids: the job has no such file",
    "unknown workflow": "workflow_version: there is no such version",
    "no such file": "the job has no such file",
    "file is being processed": "a step of the file is running or waits for a worker",
    "file is recycled": "the file is in the recycle bin; restore it first",
    "file is not recycled": "the file is not in the recycle bin",
    "unknown target": "to_job_id: there is no such job",
    "target has the file": "to_job_id: the job has the file",
    "target has not ended": "to_job_id: the job has not ended",
    OTHER_TOPIC: "operators' commands are read from operator.commands alone; on this topic the command had no effect",
}


def answer(
    unit: Unit, command: Message, verb: str, refused: str | None, trace: str | None, job: Job | None = None, **more: Any
) -> None:
    """Publish `CommandDecided` for a command. `refused`: the reason, or None where it was done; `more`: a `message` for people, and
    further fields."""
    decided = CommandDecided(
        answer_id=derived(command.message_id, "decided"), command_id=command.message_id, tenant_id=command.tenant,
        occurred_at=datetime.fromtimestamp(unit.now, UTC), subject=command.key, verb=verb, ok=refused is None,
        code=refused.replace(" ", "_")[:100] if refused else None, message=more.pop("message", None) or MESSAGES.get(refused or "", refused or ""),
        by=getattr(getattr(command, "owner", None), "user_name", ""), reason=getattr(command, "reason", ""),
        job_id=job.id if job else getattr(command, "job_id", None), sequence=job.sequence if job and refused is None else None, **more,
    )  # fmt: skip
    unit.emit(JOB_ANSWERS_TOPIC.name, decided, trace)


def explain_job(
    unit: Unit, command: Message, job: Job, budget: Budget, trace: str | None, unsent: Callable[[str], str | None]
) -> None:
    """Publish `JobExplained`: why `job`, with all of its branches, does not move. `unsent`: as in `Facts`."""
    tenant = job.owner.tenant_id
    place = rank(job.created_at.timestamp(), job.request.priority)
    facts = Facts(
        unit.now, budget.store.last_seen(), lambda action: budget.capacity("action", action), budget.capacity("tenant", tenant),
        lambda action: budget.store.count_ahead(action, tenant, place), unsent,
    )  # fmt: skip
    reason: Reason = explain(job, facts)
    asked = {} if job.ended else {"approvals": approvals(job)}
    explained = JobExplained(
        answer_id=derived(command.message_id, "explained"), command_id=command.message_id, tenant_id=tenant, job_id=job.id,
        occurred_at=datetime.fromtimestamp(unit.now, UTC), code=reason.code, message=reason.message, facts={**reason.facts, **{name: found for name, found in asked.items() if found}},
        changes_at=None if reason.at is None else datetime.fromtimestamp(reason.at, UTC),
    )  # fmt: skip
    unit.emit(JOB_ANSWERS_TOPIC.name, explained, trace)


def refuse_report(unit: Unit, report: StageReport, reason: str, trace: str | None) -> None:
    """Publish `ReportRefused`: the reported work had no effect."""
    refusal = ReportRefused(
        refusal_id=derived(report.report_id, "refused"), occurred_at=datetime.fromtimestamp(unit.now, UTC),
        report_id=report.report_id, job_id=report.job_id, tenant_id=report.tenant_id, file_id=report.file_id, step=report.step,
        action=report.action, attempt=report.attempt, status=report.status.value, reason=reason.replace(" ", "_"),
        worker=report.worker, duration_ms=report.duration_ms,
    )  # fmt: skip
    unit.emit(STAGE_REFUSALS_TOPIC.name, refusal, trace)
