"""Messages that concern many jobs: limits of actions and tenants, workflows, schedules, workers and the backlog."""

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
    """Pause or limit an action or a tenant. An absent field stays as it is; `clear` names the fields to remove."""

    TYPE = "stageline.dispatch.set_control.v1"
    kind: Literal["action", "tenant"]
    name: Id
    """The action's name, or the tenant's id."""
    paused: bool | None = None
    limit: int | None = Field(default=None, ge=0, le=1_000_000)
    """Tasks that workers hold at a time, at most."""
    rate_per_s: float | None = Field(default=None, gt=0, le=1_000_000)
    """Tasks dispatched per second, on average at most."""
    burst: int | None = Field(default=None, ge=1, le=1_000_000)
    """Tasks dispatched at once after an idle time. By default the tasks of one second, at least one."""
    weight: float | None = Field(default=None, gt=0, le=1000)
    """The tenant's share, relative to the other tenants whose tasks wait. 1 by default."""
    clear: tuple[Literal["limit", "rate_per_s", "burst", "weight"], ...] = Field(default=(), max_length=4)
    reason: Text = Field(default="", max_length=1000)

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.name}"


class PublishWorkflow(_Command):
    """Publish the next version of a workflow. A published version never changes."""

    TYPE = "stageline.workflow.publish_command.v1"
    name: str = Field(min_length=1, max_length=100)
    definition: dict[str, Any]

    @property
    def key(self) -> str:
        return f"workflow:{self.name}"


class SetSchedule(_Command):
    """Create or replace a schedule, which creates a job at each time of a cron expression in a time zone."""

    TYPE = "stageline.schedule.set_command.v1"
    VERSION = "1.1"
    schedule_id: Id
    cron: str = Field(min_length=1, max_length=200)
    time_zone: str = Field(default="UTC", min_length=1, max_length=100)
    job: JobRequest
    urls: tuple[str, ...] = Field(default=(), max_length=100)
    """Remote files that each job of the schedule downloads."""
    paused: bool = False
    admission: bool | None = None
    """The gateway admits each start within the tenant's quotas, and sends its `CreateJob`. Otherwise the orchestrator starts the job."""

    @property
    def key(self) -> str:
        return f"schedule:{self.schedule_id}"


class DeleteSchedule(_Command):
    """Delete a schedule. It creates no further jobs; the jobs that it created stay."""

    TYPE = "stageline.schedule.delete_command.v1"
    schedule_id: Id

    @property
    def key(self) -> str:
        return f"schedule:{self.schedule_id}"


DISPATCH_COMMANDS = (SetControl, PublishWorkflow, SetSchedule, DeleteSchedule)


class WorkflowPublished(Message):
    """A published version of a workflow. The topic keeps every version for ever."""

    TYPE = "stageline.workflow.published.v1"
    VERSION = "1.1"
    name: str = Field(min_length=1, max_length=100)
    version: int = Field(ge=1)
    definition: dict[str, Any]
    """Empty when the version is deleted."""
    published_at: Timestamp
    owner: str | None = Field(default=None, max_length=100)
    """The tenant that published it, and alone may read it; `*` for a workflow of the release, which everybody may read. Null: the
    operator of the platform, by a file or in a release that did not say."""
    deleted: bool | None = None
    """True: no job begins with this version, and it is not published again."""

    @property
    def message_id(self) -> str:
        # A version whose owner becomes known is announced once more, and must not count as a repetition.
        return derived(self.name, self.version, *([self.owner] if self.owner else []), "deleted" if self.deleted else "published")

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
    """The current state of a schedule. The state of a `deleted` schedule leaves the topic some time later."""

    TYPE = "stageline.schedule.state.v1"
    VERSION = "1.1"
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
    admission: bool | None = None
    start_job_id: str | None = None
    """The job that this state asks the gateway to admit and start."""
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


class ReportRefused(Message):
    """A worker's report was refused, because its attempt is closed, superseded or unknown."""

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
    """One of `unknown_job`, `unknown_file`, `other_tenant`, `stale_attempt`, `attempt_is_closed`."""
    worker: str | None = None
    duration_ms: float | None = None
    """Duration of the work, as the worker measured it."""

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
    """The backlog of one action of one tenant. Times are Unix seconds; rates are tasks per second over the last minute."""

    action: str
    tenant_id: str
    waiting: int = Field(ge=0)
    """Tasks that wait for a credit."""
    in_flight: int = Field(ge=0)
    """Dispatched tasks of the action without a final report, of all tenants together."""
    oldest_at: float | None = None
    arrival_per_s: float = Field(ge=0)
    service_per_s: float = Field(ge=0)
    drained_at: float | None = None
    """When the backlog will be empty at the current rates. None: it grows, or the rates are unknown."""
    wasted: int = Field(default=0, ge=0)
    """Refused reports since the orchestrator started."""
    gate: str = "open"
    """What holds back further tasks: `open` (nothing), `window`, `limit`, `rate` or `paused`."""
    gate_message: str = ""


class BacklogState(Message):
    """Waiting and running tasks per action and tenant. Published every two seconds while they change."""

    TYPE = "stageline.dispatch.backlog.v1"
    source: Id
    """The process that publishes it. Rates and refused reports are its own observations."""
    observed_at: Timestamp
    lines: tuple[BacklogLine, ...] = Field(max_length=2000)
    workers: dict[str, float] = Field(default_factory=dict)
    """Action → Unix time at which a worker of that action was last seen."""
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
