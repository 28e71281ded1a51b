"""Wires the worker: actions, the kit's engine over the service's Kafka clients, and two subscriptions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from aiokafka import ConsumerRecord
from faststream import AckPolicy

from contracts import all_topics, task_topic
from contracts.topics import SECRETS_TOPIC, STAGE_CANCELLATIONS_TOPIC
from services.stage_worker.actions import Actions, serve_actions
from services.stage_worker.adapters.confinement import WALLS, Limits
from services.stage_worker.adapters.downloads import GuardedDownloads
from services.stage_worker.adapters.probe import missing_walls
from services.stage_worker.adapters.sandbox import Sandbox
from services.stage_worker.adapters.service_hooks import ServiceHooks
from services.stage_worker.adapters.tenant_secrets import TenantSecrets
from services.stage_worker.adapters.transport import RelayTransport
from services.stage_worker.adapters.webhook_caller import WebhookCaller
from services.stage_worker.bench_actions import TEST_ACTIONS
from services.stage_worker.conversion import Conversion
from services.stage_worker.dependency_waits import DependencyWaits
from services.stage_worker.handlers import TaskHandlers
from services.stage_worker.ports import Action
from services.stage_worker.settings import WorkerSettings
from shared.kafka.record_reader import RecordReader
from shared.objects.containers import read_containers
from shared.objects.object_store import open_objects
from shared.processing.subscription import HEARTBEAT_MS
from shared.runtime.service import Host
from shared.secret_box import SecretBox
from shared.telemetry.tracing import Telemetry
from stageline_kit.assignment import sticky_assignors
from stageline_kit.engine import TaskEngine
from stageline_kit.partition_listener import PartitionListener

log = logging.getLogger(__name__)
GROUP = "stage_worker"
WAITING = 2000
"""Tasks that wait in this process at most: as many as two actions may have in flight, so that no tenant's queue hides another's task."""
SANDBOX_GRACE_S = 5.0
"""The sandbox enforces a task's time limit itself; the engine steps in this much later."""


async def build(host: Host, settings: WorkerSettings) -> None:
    """Wire actions and engine into `host`; declare both subscriptions."""
    secrets = TenantSecrets(SecretBox.from_file(settings.secrets_key_file))
    actions = _build_actions(host, settings, secrets)
    topics = [task_topic(name) for name in actions]
    walls = asyncio.create_task(asyncio.to_thread(missing_walls))
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
        fetch_max_wait_ms=2000, consumer_timeout_ms=60_000, partition_assignment_strategy=sticky_assignors(),
    )  # fmt: skip
    reader = RecordReader(lambda: subscriber.consumer, handlers.on_tasks, GROUP, settings.batch_records)
    reader.may_wait = lambda: engine.is_full
    transport.drop_queued = reader.drop
    host.add_reader(reader)
    host.topics.expect_dead_letters(topics, GROUP)
    _read_all(host, STAGE_CANCELLATIONS_TOPIC.name, handlers.on_cancellations)
    _read_all(host, SECRETS_TOPIC.name, secrets.on_records)

    async def tasks_assigned() -> str | None:
        return None if listener.joined else "not a member of the group yet"

    host.health.checks.append(tasks_assigned)
    _report_walls(host, await walls, settings.sandbox == "required")
    host.add_background(engine.reports.run_publisher)
    host.add_background(engine.announce_often)
    host.drainers.append(partial(engine.announce, leaving=True))
    # What is left of the time is for reports: tasks that are cut off are handed back.
    host.drainers.append(partial(engine.drain, settings.drain_timeout_s * 0.8))


def make_engine(
    worker: str, actions: dict[str, Action], concurrency: int, transport: RelayTransport, telemetry: Telemetry,
    grace_s: float = SANDBOX_GRACE_S,
) -> TaskEngine:  # fmt: skip
    """The kit's engine with the hooks of this service."""
    return TaskEngine(
        worker, actions, concurrency, transport, ServiceHooks(telemetry), grace_s=grace_s, waiting=WAITING, guests=1
    )


def _build_actions(host: Host, settings: WorkerSettings, secrets: TenantSecrets) -> dict[str, Action]:
    objects = open_objects(settings.objects_url())
    downloads = GuardedDownloads(objects, settings.max_file_bytes, settings.trusted, read_containers(settings.containers_file))
    webhooks = WebhookCaller(settings.trusted, secrets)
    host.closers += [downloads.close, webhooks.close]
    limits = Limits(memory_bytes=settings.child_memory_bytes, cpu_s=settings.child_cpu_s)
    sandbox = Sandbox(limits, settings.sandbox == "required")
    host.closers.append(sandbox.close)
    conversion = Conversion(objects, sandbox, settings.signing(), settings.signing_tenants)
    waits = DependencyWaits(objects.access.probe)
    table = {
        name: waits.around(action) for name, action in Actions(objects, sandbox, downloads, webhooks, conversion).table().items()
    }
    host.health.checks += [objects.access.object_store, waits.tasks_wait]
    return serve_actions({**table, **(TEST_ACTIONS if settings.test_actions else {})}, settings.actions)


def _report_walls(host: Host, missing: Mapping[str, str], required: bool) -> None:
    """Say in the log and on the health page which walls of the sandbox stand. The worker is not ready where a required one is missing."""
    states = {wall: missing.get(wall, "stands") for wall in (*WALLS, *missing)}
    host.health.details["sandbox"] = states
    if not missing:
        log.info("all walls of the sandbox stand", extra={"walls": list(states)})
        return
    what = "documents are refused" if required else "documents are read all the same"
    log.warning(f"the sandbox lacks walls: {what}", extra={"missing": dict(missing)})

    async def sandbox_walls() -> str | None:
        return f"documents are refused, because the sandbox lacks walls: {dict(missing)}" if required else None

    host.health.checks.append(sandbox_walls)


def _read_all(host: Host, topic: str, handler: Callable[[Sequence[ConsumerRecord[Any, Any]]], Awaitable[None]]) -> None:
    # No group: every worker reads all cancellations and secrets, because any of them may hold the task.
    subscriber = host.broker.subscriber(
        topic, group_id=None, ack_policy=AckPolicy.MANUAL, auto_offset_reset="earliest",
        include_in_schema=False, fetch_max_wait_ms=2000,
    )  # fmt: skip
    host.add_reader(RecordReader(lambda: subscriber.consumer, handler, topic))
