"""The topic table: messages, key, producers, consumers and retention of each topic. Documents about topics are generated from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from contracts.access import AccessKeyIssued, AccessKeyRevoked
from contracts.delivery import DeliveryAttempted
from contracts.dispatch import DISPATCH_COMMANDS, BacklogState, ReportRefused, ScheduleState, WorkerSeen, WorkflowPublished
from contracts.file_events import FILE_EVENTS
from contracts.job_control import JOB_COMMANDS, CommandDecided, JobErased, JobExplained
from contracts.job_events import JOB_EVENTS
from contracts.job_state import JobState
from contracts.message import Message
from contracts.session import SESSION_COMMANDS, SESSION_EVENTS
from contracts.stage import StageReport, StageTask, TaskCancelled
from contracts.webhook import RegisterWebhook, WebhookDecided

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


SESSION_COMMANDS_TOPIC = Topic("session.commands", "session id", SESSION_COMMANDS, ("ingest", "producers"), ("session",))
SESSION_EVENTS_TOPIC = Topic(
    "session.events",
    "session id",
    SESSION_EVENTS,
    ("session",),
    ("ingest", "job_orchestrator", "notifier", "consumers"),
)
JOB_COMMANDS_TOPIC = Topic(
    "job.commands",
    "job id, or what is steered",
    (*JOB_COMMANDS, *DISPATCH_COMMANDS),
    ("ingest", "producers", "job_orchestrator"),
    ("job_orchestrator",),
)
JOB_ANSWERS_TOPIC = Topic(
    "job.answers",
    "job id, or what is steered",
    (CommandDecided, JobExplained),
    ("job_orchestrator",),
    ("ingest", "consumers"),
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
JOB_STATE_TOPIC = Topic("job.state", "job id", (JobState,), ("job_orchestrator",), ("consumers",), 90 * DAY_S, "compact,delete")
STAGE_REPORTS_TOPIC = Topic(
    "stage.reports",
    "job id",
    (StageReport,),
    ("stage_worker", "workers", "job_orchestrator"),
    ("job_orchestrator",),
    retention_s=7 * DAY_S,
)
JOB_ERASURES_TOPIC = Topic(
    "job.erasures",
    "job id",
    (JobErased,),
    ("job_orchestrator",),
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
    "webhook.answers", "endpoint id", (WebhookDecided,), ("notifier",), ("ingest", "consumers"), DAY_S, hot=False
)
TASK_PREFIX = "stage.tasks."

TOPICS: tuple[Topic, ...] = (
    SESSION_COMMANDS_TOPIC, SESSION_EVENTS_TOPIC, JOB_COMMANDS_TOPIC, JOB_EVENTS_TOPIC, FILE_EVENTS_TOPIC, JOB_STATE_TOPIC,
    STAGE_REPORTS_TOPIC, STAGE_CANCELLATIONS_TOPIC, DELIVERY_EVENTS_TOPIC, ACCESS_EVENTS_TOPIC, JOB_ANSWERS_TOPIC, JOB_ERASURES_TOPIC,
    STAGE_REFUSALS_TOPIC, STAGE_WORKERS_TOPIC, BACKLOG_TOPIC, WORKFLOWS_TOPIC, SCHEDULES_TOPIC, WEBHOOK_COMMANDS_TOPIC,
    WEBHOOK_ANSWERS_TOPIC,
)  # fmt: skip

BUILT_IN_ACTIONS: tuple[str, ...] = (
    "noop", "file.fetch", "file.identify", "file.guard", "text.extract", "text.ocr", "text.classify", "fields.extract",
    "text.index", "result.package", "pdf.convert", "pdf.merge", "pdf.split", "pdf.extract_xml", "pdf.archive", "pdf.sign", "pdf.invoice",
    "tiff.convert", "xml.convert", "http.webhook",
)  # fmt: skip


def task_topic(action: str) -> Topic:
    """The row for the tasks of one action, e.g. `stage.tasks.text.extract`. Equal for built-in and your own actions."""
    return Topic(
        TASK_PREFIX + action, "file id, or job id", (StageTask,), ("job_orchestrator",), ("stage_worker",), 7 * DAY_S, tasks=True
    )


def all_topics(actions: tuple[str, ...] = BUILT_IN_ACTIONS) -> tuple[Topic, ...]:
    """All rows for a deployment that runs `actions`."""
    return (*TOPICS, *(task_topic(action) for action in actions))


def dead_letter_topic(topic: str, group: str) -> str:
    """Name of the topic to which `group` writes the records of `topic` that it can never process."""
    return f"{topic}.{group}.dlq"


def dead_letters_of(topic: Topic, group: str) -> Topic:
    """The row of a dead-letter topic. Its records have the original bytes and headers, so that they can be sent again."""
    name = dead_letter_topic(topic.name, group)
    return Topic(name, "as in the original", topic.models, (group,), ("operators",), 30 * DAY_S, hot=False)


MODELS: dict[str, type[Message]] = {m.TYPE: m for t in all_topics() for m in t.models}
"""CloudEvents type → model, over all topics."""
