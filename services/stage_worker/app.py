"""Wires the worker: actions, the kit's engine over the service's Kafka clients, and two subscriptions."""

from __future__ import annotations

from functools import partial

from faststream import AckPolicy

from contracts import all_topics, task_topic
from contracts.topics import STAGE_CANCELLATIONS_TOPIC
from services.stage_worker.actions import Actions, serve_actions
from services.stage_worker.adapters.confinement import Limits
from services.stage_worker.adapters.downloads import GuardedDownloads
from services.stage_worker.adapters.sandbox import Sandbox
from services.stage_worker.adapters.service_hooks import ServiceHooks
from services.stage_worker.adapters.transport import RelayTransport
from services.stage_worker.adapters.webhook_caller import WebhookCaller
from services.stage_worker.conversion import Conversion
from services.stage_worker.handlers import TaskHandlers
from services.stage_worker.ports import Action
from services.stage_worker.settings import WorkerSettings
from shared.kafka.record_reader import RecordReader
from shared.objects.containers import read_containers
from shared.objects.object_store import open_objects
from shared.processing.subscription import HEARTBEAT_MS
from shared.runtime.service import Host
from shared.telemetry.tracing import Telemetry
from stageline_kit.engine import PartitionListener, TaskEngine

GROUP = "stage_worker"
SANDBOX_GRACE_S = 5.0
"""The sandbox enforces a task's time limit itself; the engine steps in this much later."""


async def build(host: Host, settings: WorkerSettings) -> None:
    """Wire actions and engine into `host`; declare both subscriptions."""
    actions = _build_actions(host, settings)
    topics = [task_topic(name) for name in actions]
    await host.open_resources(all_topics(tuple(actions)), with_database=False)
    transport = RelayTransport(host.relay, host.telemetry, lambda: subscriber.consumer, GROUP)
    engine = make_engine(settings.instance, actions, settings.concurrency, transport, host.telemetry)
    handlers = TaskHandlers(engine, host.telemetry, topics, GROUP, host.fail)
    listener = PartitionListener(engine)
    # A batch may take long, because it waits for slots: the slots are the back-pressure.
    subscriber = host.broker.subscriber(
        *(t.name for t in topics), group_id=GROUP, group_instance_id=settings.group_instance, ack_policy=AckPolicy.MANUAL,
        auto_offset_reset="earliest", listener=listener, include_in_schema=False, rebalance_timeout_ms=30_000,
        session_timeout_ms=settings.session_timeout_ms, heartbeat_interval_ms=HEARTBEAT_MS, max_poll_interval_ms=3_600_000,
        fetch_max_wait_ms=2000, consumer_timeout_ms=60_000,
    )  # fmt: skip
    reader = RecordReader(lambda: subscriber.consumer, handlers.on_tasks, GROUP, settings.batch_records)
    transport.drop_queued = reader.drop
    host.add_reader(reader)
    host.expect_dead_letters(topics, GROUP)
    _read_cancellations(host, handlers)

    async def tasks_assigned() -> str | None:
        return None if listener.joined else "not a member of the group yet"

    host.health.checks.append(tasks_assigned)
    host.add_background(engine.reports.run_publisher)
    host.add_background(engine.announce_often)
    host.drainers.append(partial(engine.announce, leaving=True))
    host.drainers.append(engine.drain)


def make_engine(
    worker: str, actions: dict[str, Action], concurrency: int, transport: RelayTransport, telemetry: Telemetry,
    grace_s: float = SANDBOX_GRACE_S,
) -> TaskEngine:  # fmt: skip
    """The kit's engine with the hooks of this service."""
    return TaskEngine(worker, actions, concurrency, transport, ServiceHooks(telemetry), grace_s=grace_s)


def _build_actions(host: Host, settings: WorkerSettings) -> dict[str, Action]:
    objects = open_objects(settings.objects_url())
    downloads = GuardedDownloads(objects, settings.max_file_bytes, settings.trusted, read_containers(settings.containers_file))
    webhooks = WebhookCaller(settings.trusted)
    host.closers += [downloads.close, webhooks.close]
    sandbox = Sandbox(Limits(memory_bytes=settings.child_memory_bytes, cpu_s=settings.child_cpu_s))
    conversion = Conversion(objects, sandbox, settings.signing(), settings.signing_tenants)
    return serve_actions(Actions(objects, sandbox, downloads, webhooks, conversion).table(), settings.actions)


def _read_cancellations(host: Host, handlers: TaskHandlers) -> None:
    # No group: every worker reads all cancellations, because any of them may hold the task.
    subscriber = host.broker.subscriber(
        STAGE_CANCELLATIONS_TOPIC.name, group_id=None, ack_policy=AckPolicy.MANUAL, auto_offset_reset="earliest",
        include_in_schema=False, fetch_max_wait_ms=2000,
    )  # fmt: skip
    host.add_reader(RecordReader(lambda: subscriber.consumer, handlers.on_cancellations, STAGE_CANCELLATIONS_TOPIC.name))
