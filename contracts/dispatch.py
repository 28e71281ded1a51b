"""What steers all jobs at once: controls of actions and tenants, workflows, schedules; and what is known of the backlog."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from contracts.identity import derived
from contracts.loose import Id, Text, Timestamp
from contracts.message import Contract, Message
from contracts.work import JobRequest, Tenancy

ACTION = r"^[a-z][a-z0-9_]*(\.[a-z0-9_]+)*$"


class _Command(Message):
    command_id: Id
    owner: Tenancy
    issued_at: Timestamp

    @property
    def message_id(self) -> str:
        return self.command_id

    @property
    def time(self) -> datetime:
        return self.issued_at

    @property
    def tenant(self) -> str:
        return self.owner.tenant_id


class SetControl(_Command):
    """Change what steers an action or a tenant, while everything runs. A field that is absent stays as it is; `clear` names those
    that are to have no value any more."""

    TYPE = "stageline.dispatch.set_control.v1"
    kind: Literal["action", "tenant"]
    name: Id
    """The action, or the tenant's id."""
    paused: bool | None = None
    limit: int | None = Field(default=None, ge=0, le=1_000_000)
    """Tasks in the hands of workers at a time."""
    rate_per_s: float | None = Field(default=None, gt=0, le=1_000_000)
    """Tasks handed out per second, on average."""
    burst: int | None = Field(default=None, ge=1, le=1_000_000)
    """Tasks handed out at once after a pause of the rate; default: one second's worth, at least one."""
    weight: float | None = Field(default=None, gt=0, le=1000)
    """A tenant's share beside other tenants' where tasks wait; default 1."""
    clear: tuple[Literal["limit", "rate_per_s", "burst", "weight"], ...] = Field(default=(), max_length=4)
    reason: Text = Field(default="", max_length=1000)

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.name}"


class PublishWorkflow(_Command):
    """Publish a workflow version: from then on it never changes."""

    TYPE = "stageline.workflow.publish_command.v1"
    name: str = Field(min_length=1, max_length=100)
    definition: dict[str, Any]

    @property
    def key(self) -> str:
        return f"workflow:{self.name}"


class SetSchedule(_Command):
    """Make a job whenever a cron expression says so, in a time zone. The same id again replaces the schedule."""

    TYPE = "stageline.schedule.set_command.v1"
    schedule_id: Id
    cron: str = Field(min_length=1, max_length=200)
    time_zone: str = Field(default="UTC", min_length=1, max_length=100)
    job: JobRequest
    urls: tuple[str, ...] = Field(default=(), max_length=100)
    """Remote files that each of its jobs fetches."""
    paused: bool = False

    @property
    def key(self) -> str:
        return f"schedule:{self.schedule_id}"


class DeleteSchedule(_Command):
    """No more jobs of this schedule."""

    TYPE = "stageline.schedule.delete_command.v1"
    schedule_id: Id

    @property
    def key(self) -> str:
        return f"schedule:{self.schedule_id}"


DISPATCH_COMMANDS = (SetControl, PublishWorkflow, SetSchedule, DeleteSchedule)


class WorkflowPublished(Message):
    """A workflow version as it is published; the topic keeps every version for ever."""

    TYPE = "stageline.workflow.published.v1"
    name: str = Field(min_length=1, max_length=100)
    version: int = Field(ge=1)
    definition: dict[str, Any]
    published_at: Timestamp

    @property
    def message_id(self) -> str:
        return derived(self.name, self.version, "published")

    @property
    def key(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def time(self) -> datetime:
        return self.published_at

    @property
    def tenant(self) -> str:
        return "workflows"


class ScheduleState(Message):
    """A schedule as it is; `deleted` ones leave the topic some time later."""

    TYPE = "stageline.schedule.state.v1"
    schedule_id: Id
    owner: Tenancy
    cron: str
    time_zone: str
    job: JobRequest
    urls: tuple[str, ...] = ()
    paused: bool = False
    deleted: bool = False
    next_at: Timestamp | None = None
    last_job_id: str | None = None
    revision: int = Field(ge=1)
    changed_at: Timestamp

    @property
    def message_id(self) -> str:
        return derived(self.schedule_id, "state", self.revision)

    @property
    def key(self) -> str:
        return self.schedule_id

    @property
    def time(self) -> datetime:
        return self.changed_at

    @property
    def tenant(self) -> str:
        return self.owner.tenant_id


class WorkerSeen(Message):
    """A worker says that it is there and which actions it takes: every ten seconds, and once when it leaves."""

    TYPE = "stageline.worker.seen.v1"
    worker: Id
    actions: tuple[str, ...] = Field(max_length=1000)
    slots: int = Field(ge=0)
    """Tasks it runs at a time."""
    leaving: bool = False
    client: str | None = Field(default=None, max_length=200)
    seen_at: Timestamp

    @property
    def message_id(self) -> str:
        return derived(self.worker, "seen", self.seen_at.isoformat())

    @property
    def key(self) -> str:
        return self.worker

    @property
    def time(self) -> datetime:
        return self.seen_at

    @property
    def tenant(self) -> str:
        return "workers"


class ReportRefused(Message):
    """Work that came to nothing: a worker's report on an attempt that was closed, taken away, or never was."""

    TYPE = "stageline.stage.report_refused.v1"
    refusal_id: Id
    occurred_at: Timestamp
    report_id: Id
    job_id: Id
    tenant_id: Id
    file_id: str | None = None
    step: str
    action: str
    attempt: int
    status: str
    reason: str = Field(max_length=100)
    """`unknown_job`, `unknown_file`, `other_tenant`, `stale_attempt`, `attempt_is_closed`."""
    worker: str | None = None
    duration_ms: float | None = None
    """What the work took, as the worker says."""

    @property
    def message_id(self) -> str:
        return self.refusal_id

    @property
    def key(self) -> str:
        return self.job_id

    @property
    def time(self) -> datetime:
        return self.occurred_at

    @property
    def tenant(self) -> str:
        return self.tenant_id


class BacklogLine(Contract):
    """One action of one tenant. Times are Unix seconds, rates tasks per second over the last minute."""

    action: str
    tenant_id: str
    waiting: int = Field(ge=0)
    """Tasks that wait for a credit (for a task of a file that is one each)."""
    in_flight: int = Field(ge=0)
    """Tasks in Kafka or in the hands of workers; of all tenants together if there are no controls of this one."""
    oldest_at: float | None = None
    arrival_per_s: float = Field(ge=0)
    service_per_s: float = Field(ge=0)
    drained_at: float | None = None
    """When the backlog will be worked off at these rates; None if it is growing, or nothing is known."""
    wasted: int = Field(default=0, ge=0)
    """Reports refused since the orchestrator started."""
    gate: str = "open"
    """`open`, `window`, `limit`, `rate`, `paused`."""
    gate_message: str = ""


class BacklogState(Message):
    """What waits, what runs, and when it will be worked off; every two seconds while anything changes."""

    TYPE = "stageline.dispatch.backlog.v1"
    source: Id
    """The process that says so: rates and waste are what it saw itself."""
    observed_at: Timestamp
    lines: tuple[BacklogLine, ...] = Field(max_length=2000)
    workers: dict[str, float] = Field(default_factory=dict)
    """Action → Unix time at which a worker that takes it was last seen."""
    controls: tuple[dict[str, Any], ...] = Field(default=(), max_length=2000)

    @property
    def message_id(self) -> str:
        return derived(self.source, "backlog", self.observed_at.isoformat())

    @property
    def key(self) -> str:
        return self.source

    @property
    def time(self) -> datetime:
        return self.observed_at

    @property
    def tenant(self) -> str:
        return "operators"
