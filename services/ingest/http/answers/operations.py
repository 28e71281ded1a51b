"""Answers of our own API for operators: backlog, controls, audit, retention, workflows, schedules."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from services.ingest.http.answers.records import TIME


class BacklogLine(BaseModel):
    """The backlog of one action of one tenant. Times are Unix seconds; rates are tasks per second over the last minute."""

    action: str = Field(examples=["text.extract"])
    tenant_id: str
    waiting: int = Field(description="Tasks that wait for a credit.")
    in_flight: int = Field(description="Dispatched tasks of the action without a final report, of all tenants together.")
    oldest_at: float | None = None
    oldest_age_s: float | None
    arrival_per_s: float
    service_per_s: float
    drained_at: float | None = Field(description="When the backlog will be empty at the present rates.")
    wasted: int = Field(description="Refused reports since the orchestrator started.")
    gate: str = Field(
        examples=["open"], description="What holds back tasks: `open` (nothing), `window`, `limit`, `rate`, `paused`."
    )
    gate_message: str


class Backlog(BaseModel):
    """Waiting and running tasks."""

    as_of: str | None = Field(examples=[TIME])
    lines: list[BacklogLine]
    workers: dict[str, float] = Field(description="Action → Unix time at which a worker of that action was last seen.")
    controls: list[dict[str, Any]] = Field(description="Pauses, limits and weights that hold now.")


class ControlSet(BaseModel):
    """The control as the call gave it."""

    kind: str = Field(examples=["action"])
    name: str = Field(examples=["text.extract"])
    command_id: str
    paused: bool | None = None
    limit: int | None = None
    rate_per_s: float | None = None
    burst: int | None = None
    weight: float | None = None


class AuditLine(BaseModel):
    """Who did what, and whether it was allowed."""

    occurred_at: str = Field(examples=[TIME])
    verb: str = Field(examples=["job.cancel"])
    subject: str | None
    ok: bool
    code: str | None
    message: str | None
    by: str | None
    by_tenant: str | None = None
    reason: str | None = None
    job_id: str | None
    command_id: str | None
    address: str | None = None
    count: int | None = Field(default=None, description="There when the line stands for several equal acts.")


class AuditPage(BaseModel):
    """One page of the audit, newest first."""

    result: list[AuditLine]
    next: int | None = Field(description="`before` of the next page; null on the last.")


class BrokenLine(BaseModel):
    """The first line of the audit whose hash is wrong."""

    seq: int
    id: int | None
    reason: str


class AuditVerification(BaseModel):
    """The verified chain of hashes."""

    rows: int
    unchained: int
    first: int | None
    head: str = Field(description="Note it outside. A later verification can be held against it.")
    broken: BrokenLine | None


class RetentionDays(BaseModel):
    """Days that ended jobs are kept; null keeps them for ever."""

    days: float | None = Field(examples=[90])


class WorkflowLine(BaseModel):
    """A workflow and its published versions, oldest first."""

    name: str = Field(examples=["documents"])
    versions: list[int] = Field(examples=[[1]])
    draft: bool
    description: str


class WorkflowList(BaseModel):
    """Workflows that the tenant may run."""

    result: list[WorkflowLine]


class PublishedWorkflow(BaseModel):
    """A published version. Secrets in its definition are hidden."""

    name: str = Field(examples=["documents"])
    version: int
    definition: dict[str, Any]
    owner: str | None = Field(default=None, description="The tenant that published it; `*` for those of the release.")
    published_at: str
    deleted: bool | None = None


class WorkflowDraft(BaseModel):
    """A draft."""

    name: str
    definition: dict[str, Any]


class PublishedVersion(BaseModel):
    """The version that was published."""

    name: str
    version: int
    command_id: str


class ScheduleSaved(BaseModel):
    """The schedule as the call gave it."""

    name: str = Field(examples=["nightly"])
    cron: str
    time_zone: str
    workflow: str
    workflow_version: int | None = None
    urls: list[str]
    metadata: dict[str, Any] | None = None
    priority: str
    args: dict[str, Any] | None = None
    paused: bool


class ScheduleLine(BaseModel):
    """A schedule and its next job."""

    name: str = Field(examples=["nightly"])
    job: dict[str, Any] = Field(description="What each job is made of.")
    cron: str | None
    time_zone: str | None
    urls: list[str] | None
    paused: bool | None
    next_at: str | float | None
    last_job_id: str | None


class ScheduleList(BaseModel):
    """The tenant's schedules."""

    result: list[ScheduleLine]
