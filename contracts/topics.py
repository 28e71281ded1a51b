"""The topic table: messages, key, producers, consumers and retention of each topic. Documents about topics are generated from it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from contracts.access import AccessKeyIssued, AccessKeyRevoked
from contracts.actions import ACTIONS
from contracts.delivery import DeliveryAttempted
from contracts.dispatch import DISPATCH_COMMANDS, BacklogState, ReportRefused, ScheduleState, WorkerSeen, WorkflowPublished
from contracts.file_commands import FILE_COMMANDS, EraseFile, FileErased
from contracts.file_events import FILE_EVENTS
from contracts.housekeeping import HOUSEKEEPING_COMMANDS, ReferencesFound
from contracts.job_commands import CancelJob, CreateJob
from contracts.job_control import (
    JOB_COMMANDS,
    CommandDecided,
    EraseJob,
    ExplainJob,
    JobErased,
    JobExplained,
    PokeJob,
    TenantErased,
)
from contracts.job_events import JOB_EVENTS
from contracts.job_state import JobState
from contracts.message import Message
from contracts.seal_events import SealKeyChanged
from contracts.secret_events import SecretChanged
from contracts.session import SESSION_COMMANDS, SESSION_EVENTS, EraseSession, SessionErased
from contracts.stage import StageReport, StageTask, TaskCancelled
from contracts.webhook import RegisterWebhook, WebhookChanged, WebhookDecided

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Topic:
    """One row of the table. `retention_s` is in seconds. A `compact` topic keeps the last record of each key for ever;
    a `compact,delete` topic keeps it for `retention_s`."""

    name: str
    key: str
    models: tuple[type[Message], ...]
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    retention_s: int = 30 * DAY_S
    cleanup: Literal["delete", "compact", "compact,delete"] = "delete"
    hot: bool = True
    """Hot topics get the deployment's partition count, the others one partition."""
    tasks: bool = False
    """Task topics, one per action, are hot and have a partition count of their own in a deployment."""
    refused: tuple[type[Message], ...] = ()
    """Messages that earlier releases wrote here. They are read, and answered with a refusal."""
    forget_s: int | None = None
    """Seconds after which a compacted topic has forgotten a value that was replaced or deleted, counted from its next record."""

    @property
    def types(self) -> frozenset[str]:
        """CloudEvents types that a reader of the topic decodes."""
        return frozenset(m.TYPE for m in (*self.models, *self.refused))


PRODUCER_COMMANDS = (CreateJob, CancelJob, PokeJob, ExplainJob)
"""Commands of `job.commands`: what a program needs that submits jobs and answers its own steps. All others are an operator's."""
OPERATOR_COMMANDS = tuple(
    m for m in (*JOB_COMMANDS, *FILE_COMMANDS, *DISPATCH_COMMANDS, *HOUSEKEEPING_COMMANDS) if m not in PRODUCER_COMMANDS
)
"""Commands that only `operator.commands` carries."""
TRANSIT_S = 7 * DAY_S
"""How long records stay whose readers keep what they need: shorter than the inbox remembers their ids."""
SESSION_COMMANDS_TOPIC = Topic(
    "session.commands", "session id", SESSION_COMMANDS, ("ingest", "producers"), ("session",), TRANSIT_S
)
SESSION_EVENTS_TOPIC = Topic(
    "session.events",
    "session id",
    SESSION_EVENTS,
    ("session",),
    ("ingest", "job_orchestrator", "notifier", "consumers"),
    TRANSIT_S,
)
JOB_COMMANDS_TOPIC = Topic(
    "job.commands",
    "job id",
    PRODUCER_COMMANDS,
    ("ingest", "producers", "job_orchestrator"),
    ("job_orchestrator",),
    TRANSIT_S,
    refused=OPERATOR_COMMANDS,
)
OPERATOR_COMMANDS_TOPIC = Topic(
    "operator.commands",
    "job id, or what is steered",
    (*OPERATOR_COMMANDS, *PRODUCER_COMMANDS),
    ("ingest", "operators"),
    ("job_orchestrator",),
    TRANSIT_S,
)
JOB_ANSWERS_TOPIC = Topic(
    "job.answers",
    "job id, or what is steered",
    (CommandDecided, JobExplained, ReferencesFound),
    ("job_orchestrator", "ingest"),
    ("ingest", "notifier", "consumers"),
    DAY_S,
)
JOB_EVENTS_TOPIC = Topic(
    "job.events",
    "job id",
    JOB_EVENTS,
    ("job_orchestrator",),
    ("ingest", "notifier", "consumers"),
    retention_s=90 * DAY_S,
)
FILE_EVENTS_TOPIC = Topic(
    "file.events",
    "job id",
    FILE_EVENTS,
    ("job_orchestrator",),
    ("ingest", "notifier", "consumers"),
    retention_s=90 * DAY_S,
)
JOB_STATE_TOPIC = Topic(
    "job.state", "job id", (JobState,), ("job_orchestrator",), ("consumers",), 90 * DAY_S, "compact,delete", forget_s=DAY_S
)
STAGE_REPORTS_TOPIC = Topic(
    "stage.reports",
    "job id",
    (StageReport,),
    ("stage_worker", "workers", "job_orchestrator"),
    ("job_orchestrator",),
    retention_s=TRANSIT_S,
)
JOB_ERASURES_TOPIC = Topic(
    "job.erasures",
    "job id, or tenant",
    (JobErased, FileErased, TenantErased),
    ("job_orchestrator", "ingest"),
    ("ingest", "session", "notifier", "consumers"),
    365 * DAY_S,
    hot=False,
)
STAGE_REFUSALS_TOPIC = Topic(
    "stage.refusals", "job id", (ReportRefused,), ("job_orchestrator",), ("consumers", "operators"), 30 * DAY_S, hot=False
)
STAGE_WORKERS_TOPIC = Topic(
    "stage.workers", "worker", (WorkerSeen,), ("stage_worker", "workers"), ("job_orchestrator",), 3600, hot=False
)
BACKLOG_TOPIC = Topic(
    "dispatch.backlog", "process", (BacklogState,), ("job_orchestrator",), ("ingest", "operators"), 7 * DAY_S, hot=False
)
WORKFLOWS_TOPIC = Topic(
    "workflow.events", "name@version", (WorkflowPublished,), ("job_orchestrator",), ("ingest", "consumers"), 0, "compact", False
)
SCHEDULES_TOPIC = Topic(
    "schedule.state",
    "schedule id",
    (ScheduleState,),
    ("job_orchestrator",),
    ("ingest", "consumers"),
    365 * DAY_S,
    "compact,delete",
    False,
)
STAGE_CANCELLATIONS_TOPIC = Topic(
    "stage.cancellations",
    "job id",
    (TaskCancelled,),
    ("job_orchestrator",),
    ("stage_worker", "workers"),
    3600,
    hot=False,
)
DELIVERY_EVENTS_TOPIC = Topic("delivery.events", "endpoint id", (DeliveryAttempted,), ("notifier",), ("consumers",), hot=False)
ACCESS_EVENTS_TOPIC = Topic(
    "access.events",
    "key hash",
    (AccessKeyIssued, AccessKeyRevoked),
    ("ingest",),
    ("ingest", "notifier"),
    0,
    "compact",
    False,
)
WEBHOOK_COMMANDS_TOPIC = Topic(
    "webhook.commands", "endpoint id", (RegisterWebhook,), ("ingest", "producers"), ("notifier",), 7 * DAY_S, hot=False
)
WEBHOOK_ANSWERS_TOPIC = Topic(
    "webhook.answers", "endpoint id", (WebhookDecided, WebhookChanged), ("notifier",), ("ingest", "consumers"), DAY_S, hot=False
)
SECRETS_TOPIC = Topic("secret.events", "tenant/name", (SecretChanged,), ("ingest",), ("stage_worker",), 0, "compact", False)
SEAL_KEYS_TOPIC = Topic(
    "seal.keys", "seal key/part", (SealKeyChanged,), ("job_orchestrator",),
    ("ingest", "session", "notifier", "job_orchestrator", "stage_worker", "consumers", "workers"), 0, "compact", False, forget_s=3600,
)  # fmt: skip
TASK_PREFIX = "stage.tasks."

TOPICS: tuple[Topic, ...] = (
    SESSION_COMMANDS_TOPIC, SESSION_EVENTS_TOPIC, JOB_COMMANDS_TOPIC, OPERATOR_COMMANDS_TOPIC, JOB_EVENTS_TOPIC, FILE_EVENTS_TOPIC, JOB_STATE_TOPIC,
    STAGE_REPORTS_TOPIC, STAGE_CANCELLATIONS_TOPIC, DELIVERY_EVENTS_TOPIC, ACCESS_EVENTS_TOPIC, JOB_ANSWERS_TOPIC, JOB_ERASURES_TOPIC,
    STAGE_REFUSALS_TOPIC, STAGE_WORKERS_TOPIC, BACKLOG_TOPIC, WORKFLOWS_TOPIC, SCHEDULES_TOPIC, WEBHOOK_COMMANDS_TOPIC,
    WEBHOOK_ANSWERS_TOPIC, SECRETS_TOPIC, SEAL_KEYS_TOPIC,
)  # fmt: skip

BUILT_IN_ACTIONS: tuple[str, ...] = tuple(ACTIONS)


DROPPED_WHEN_ERASED = frozenset(
    t.name for t in (SESSION_EVENTS_TOPIC, JOB_EVENTS_TOPIC, FILE_EVENTS_TOPIC, JOB_STATE_TOPIC, STAGE_REPORTS_TOPIC, STAGE_REFUSALS_TOPIC)
)  # fmt: skip
"""Sealed topics with facts about a job. When the job is erased there is nobody left who may read them, and they are not written."""
PLAIN_WHEN_ERASED = frozenset(
    t.name for t in (SESSION_COMMANDS_TOPIC, JOB_COMMANDS_TOPIC, OPERATOR_COMMANDS_TOPIC, JOB_ANSWERS_TOPIC)
)
"""Sealed topics with commands and their answers. What concerns an erased job is refused, and the refusal must be readable."""


NEVER_SEALED = frozenset({CommandDecided.TYPE, EraseJob.TYPE, EraseFile.TYPE, EraseSession.TYPE, SessionErased.TYPE})
"""Types without content of jobs. An erasure and its answer must stay readable, and the key is destroyed at that moment."""


def holds_content(topic: str) -> bool:
    """True for a topic whose records hold content of jobs, and are sealed where a deployment seals records."""
    if topic.endswith(".dlq"):
        return True
    tenants = topic.startswith(TENANT_PREFIX) and topic.endswith(".events")
    return topic in DROPPED_WHEN_ERASED or topic in PLAIN_WHEN_ERASED or topic.startswith(TASK_PREFIX) or tenants


def is_operators(command: Message) -> bool:
    """True for a command that belongs on `operator.commands` alone: an operator's verb, or the answer to an approval."""
    return isinstance(command, OPERATOR_COMMANDS) or (isinstance(command, PokeJob) and command.approval)


def command_topic(command: Message) -> Topic:
    """The topic on which a service publishes a command to the orchestrator."""
    return OPERATOR_COMMANDS_TOPIC if is_operators(command) else JOB_COMMANDS_TOPIC


def task_topic(action: str) -> Topic:
    """The row for the tasks of one action, e.g. `stage.tasks.text.extract`. Equal for built-in and your own actions."""
    return Topic(
        TASK_PREFIX + action, "file id, or job id", (StageTask,), ("job_orchestrator",), ("stage_worker",), TRANSIT_S, tasks=True
    )


TENANT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", re.ASCII)
"""Ids of tenants that may work by Kafka. Without a dot, so that no tenant's topics begin with those of another."""
TENANT_PREFIX = "tenant."
TENANT_COMMANDS_PATTERN = r"^tenant\.[A-Za-z0-9][A-Za-z0-9_-]*\.commands$"
"""Names of the topics on which tenants write, as a regular expression."""
TENANTS_COMMANDS = "tenants.commands"
"""Stands for all of these topics in the name of their one dead-letter topic."""
TENANT_COMMANDS = (*PRODUCER_COMMANDS, *SESSION_COMMANDS)
"""What a tenant may command. The ingest service checks it and passes it on in the tenant's name."""


def tenant_commands_topic(tenant: str) -> Topic:
    """The row of the topic that a tenant writes. A record here acts for this tenant, whatever it says about its owner."""
    return Topic(
        f"{TENANT_PREFIX}{tenant}.commands", "job id, or session id", TENANT_COMMANDS, ("tenant",), ("ingest",), 7 * DAY_S,
        refused=OPERATOR_COMMANDS,
    )  # fmt: skip


def tenant_events_topic(tenant: str) -> Topic:
    """The row of the topic that a tenant reads: the events of its jobs, files and sessions, and the answers to its commands."""
    models = (*JOB_EVENTS, *FILE_EVENTS, *SESSION_EVENTS, CommandDecided, JobExplained, JobErased, FileErased, TenantErased)
    return Topic(f"{TENANT_PREFIX}{tenant}.events", "as in the original", models, ("notifier",), ("tenant",), 7 * DAY_S)


def tenant_of(topic: str) -> str | None:
    """The tenant whose command or event topic this is, or None."""
    prefix, _, rest = topic.partition(".")
    tenant, _, kind = rest.partition(".")
    known = f"{prefix}." == TENANT_PREFIX and kind in ("commands", "events") and TENANT_ID.fullmatch(tenant)
    return tenant if known else None


def all_topics(actions: tuple[str, ...] = BUILT_IN_ACTIONS) -> tuple[Topic, ...]:
    """All rows for a deployment that runs `actions`."""
    return (*TOPICS, *(task_topic(action) for action in actions))


def dead_letter_topic(topic: str, group: str) -> str:
    """Name of the topic to which `group` writes the records of `topic` that it can never process."""
    return f"{TENANTS_COMMANDS if tenant_of(topic) else topic}.{group}.dlq"


def dead_letters_of(topic: Topic, group: str) -> Topic:
    """The row of a dead-letter topic. Its records have the original bytes and headers, so that they can be sent again."""
    name = dead_letter_topic(topic.name, group)
    return Topic(name, "as in the original", topic.models, (group,), ("operators",), 30 * DAY_S, hot=False)


MODELS: dict[str, type[Message]] = {m.TYPE: m for t in all_topics() for m in (*t.models, *t.refused)}
"""CloudEvents type → model, over all topics."""
