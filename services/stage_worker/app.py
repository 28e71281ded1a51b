"""Binds the task topics and the cancellations to the pool."""

from __future__ import annotations

from faststream import AckPolicy

from contracts import task_topic
from contracts.topics import STAGE_CANCELLATIONS_TOPIC
from services.stage_worker.actions import Actions
from services.stage_worker.adapters.calling import Calling
from services.stage_worker.adapters.fetch import GuardedDownloads
from services.stage_worker.adapters.limits import Limits
from services.stage_worker.adapters.sandbox import Sandbox
from services.stage_worker.converting import Converting
from services.stage_worker.handlers import Ownership, Tasks, topics_of
from services.stage_worker.pool import Pool, actions_named
from services.stage_worker.presence import Presence
from services.stage_worker.reporter import Reporter
from services.stage_worker.settings import WorkerSettings
from shared.kafka.record_reader import RecordReader
from shared.objects.containers import read_containers
from shared.objects.object_store import open_objects
from shared.processing.subscription import HEARTBEAT_MS
from shared.runtime.service import Host

GROUP = "stage_worker"


async def build(host: Host, settings: WorkerSettings) -> None:
    """Wire actions, pool and reporter; declare both subscriptions."""
    objects = open_objects(settings.objects())
    downloads = GuardedDownloads(objects, settings.max_file_bytes, settings.trusted, read_containers(settings.containers_file))
    calling = Calling(settings.trusted)
    sandbox = Sandbox(Limits(memory_bytes=settings.child_memory_bytes, cpu_s=settings.child_cpu_s))
    converting = Converting(objects, sandbox, settings.signing(), settings.signing_tenants)
    actions = actions_named(Actions(objects, sandbox, downloads, calling, converting).table(), settings.actions)
    topics = [task_topic(name) for name in actions]
    await host.open_resources(topics_of(tuple(actions)), with_database=False)
    reporter = Reporter(host.relay, host.telemetry, lambda: subscriber.consumer, GROUP)
    pool = Pool(actions, reporter, host.telemetry, settings.instance, settings.concurrency)
    ownership = Ownership(reporter)
    tasks = Tasks(pool, reporter, topics, GROUP, host.fail)
    # A batch is small and may take long: the pool's slots are the back-pressure, so the poll interval is generous.
    subscriber = host.broker.subscriber(
        *(t.name for t in topics), group_id=GROUP, group_instance_id=settings.group_instance, ack_policy=AckPolicy.MANUAL,
        auto_offset_reset="earliest", listener=ownership, include_in_schema=False, rebalance_timeout_ms=30_000,
        session_timeout_ms=settings.session_timeout_ms, heartbeat_interval_ms=HEARTBEAT_MS, max_poll_interval_ms=3_600_000, fetch_max_wait_ms=2000, consumer_timeout_ms=60_000,
    )  # fmt: skip
    reader = RecordReader(lambda: subscriber.consumer, tasks.on_tasks, GROUP, settings.batch_records)
    ownership.drop = reader.drop
    host.add_reader(reader)
    host.expect_dead_letters(topics, GROUP)
    read_cancellations(host, tasks)

    async def tasks_assigned() -> str | None:
        return None if ownership.joined else "not a member of the group yet"

    host.health.checks.append(tasks_assigned)
    presence = Presence(host.relay, settings.instance, list(actions), settings.concurrency)
    host.add_background(reporter.run)
    host.add_background(presence.run)
    host.drainers.append(presence.leave)
    host.drainers.append(pool.drain)
    host.closers += [downloads.close, calling.close]


def read_cancellations(host: Host, tasks: Tasks) -> None:
    """Read all cancellations, without a group: any worker may hold the task, so each reads every one."""
    subscriber = host.broker.subscriber(
        STAGE_CANCELLATIONS_TOPIC.name, group_id=None, ack_policy=AckPolicy.MANUAL, auto_offset_reset="earliest",
        include_in_schema=False, fetch_max_wait_ms=2000,
    )  # fmt: skip
    host.add_reader(RecordReader(lambda: subscriber.consumer, tasks.on_cancellations, STAGE_CANCELLATIONS_TOPIC.name))
