"""Copies a tenant's events and answers to `tenant.<id>.events`, for tenants that have such a topic.

The records keep key, value and headers, so their ids stay the same. Offsets are committed after Kafka has the copies: an event arrives at
least once, and the events of a job arrive in their order.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from faststream import AckPolicy

from contracts import Topic
from contracts.topics import tenant_events_topic, tenant_of
from shared.backoff import backoff
from shared.errors import Retry
from shared.kafka.clients import make_producer
from shared.kafka.offset_commits import OffsetCommits, next_offsets
from shared.kafka.outgoing import Outgoing
from shared.kafka.record_reader import RecordReader
from shared.processing.outbox import Relay
from shared.processing.subscription import HEARTBEAT_MS, RebalanceGate
from shared.runtime.service import Host

log = logging.getLogger(__name__)
GROUP = "notifier-tenants"
TRUSTED_S = 5.0
"""How long a topic that was seen is believed to exist."""
SKEW_S = 5.0
"""Most difference between the clocks of the services."""


class Grants:
    """The tenants that have a topic of events."""

    def __init__(self, admin: AIOKafkaAdminClient) -> None:
        self.admin = admin
        self.known: set[str] = set()
        self.at = float("-inf")
        """When `known` was read, in Unix seconds."""

    async def read(self) -> None:
        """Read the names of all topics. Raises `KafkaError`."""
        at = time.time()
        names = await self.admin.list_topics()
        self.known = {tenant for name in names if (tenant := tenant_of(name)) and name == tenant_events_topic(tenant).name}
        self.at = at

    async def of(self, records: Sequence[Any]) -> list[tuple[str, Any]]:
        """Each record of a tenant that had its topic when the record was written, with the tenant. Raises `KafkaError`."""
        theirs = [(tenant, record) for record in records if (tenant := _tenant(record))]
        newest = max((r.timestamp / 1000 for tenant, r in theirs if tenant not in self.known), default=float("-inf"))
        # A tenant without a topic may have got one since: then its first events must not be left out.
        if self.at < newest + SKEW_S or (theirs and time.time() - self.at > TRUSTED_S):
            await self.read()
        return [(tenant, record) for tenant, record in theirs if tenant in self.known]


class TenantMirror:
    """Forwards batches of records. One per process."""

    def __init__(self, grants: Grants, relay: Relay, commits: OffsetCommits, gate: RebalanceGate) -> None:
        self.grants = grants
        self.relay = relay
        self.commits = commits
        self.gate = gate
        self.failure: str | None = None
        """Why the last batch was not copied; None when it was."""

    async def ready(self) -> str | None:
        """Why events of tenants are not copied now."""
        return self.failure and f"events of tenants are not copied: {self.failure}"

    async def on_records(self, records: list[Any]) -> None:
        """Copy a batch, as often as it takes, and commit its offsets."""
        if self.gate.closed:
            return
        self.gate.idle.clear()
        try:
            failures = 0
            while not await self._copied(records):
                failures += 1
                await asyncio.sleep(backoff(failures))
            self.commits.mark_done(next_offsets(records))
        finally:
            self.gate.idle.set()

    async def _copied(self, records: list[Any]) -> bool:
        try:
            found = await self.grants.of(records)
            await self.relay.send_records(
                [
                    Outgoing(tenant_events_topic(tenant).name, r.key, r.value, tuple((n, v or b"") for n, v in r.headers))
                    for tenant, r in found
                ]
            )
        except (KafkaError, Retry) as error:
            # A topic may have been deleted: look before the next try.
            self.grants.at = float("-inf")
            self.failure = str(error) or repr(error)
            log.warning("events of tenants could not be copied, will retry", extra={"group": GROUP, "reason": self.failure})
            return False
        self.failure = None
        return True


def _tenant(record: Any) -> str | None:
    value = next((value for name, value in record.headers if name == "ce_tenant"), None)
    return value.decode("utf-8", "replace") if value and record.value is not None else None


async def start_mirror(host: Host, topics: Sequence[Topic]) -> None:
    """Read `topics` in a group of its own, and copy what belongs to tenants with a topic. Raises `Retry` without Kafka."""
    settings = host.settings
    gate = RebalanceGate()
    subscriber = host.broker.subscriber(
        *(t.name for t in topics), group_id=GROUP, group_instance_id=settings.group_instance, ack_policy=AckPolicy.MANUAL,
        auto_offset_reset="earliest", listener=gate, include_in_schema=False, rebalance_timeout_ms=30_000,
        session_timeout_ms=settings.session_timeout_ms, heartbeat_interval_ms=HEARTBEAT_MS, fetch_max_wait_ms=2000,
        consumer_timeout_ms=60_000,
    )  # fmt: skip
    admin = AIOKafkaAdminClient(**settings.kafka.options)
    await admin.start()
    producer = await make_producer(settings.kafka, f"{GROUP}-{settings.instance}")
    commits = OffsetCommits(lambda: subscriber.consumer, host.telemetry, GROUP)
    relay = Relay(producer, host.telemetry, GROUP)
    mirror = TenantMirror(Grants(admin), relay, commits, gate)
    host.health.checks.append(mirror.ready)
    relay.sealing = host.sealing
    host.relays.append(relay)
    reader = RecordReader(lambda: subscriber.consumer, mirror.on_records, GROUP, settings.batch_records)
    reader.fetch_pause_s = 0.1
    reader.may_wait = lambda: mirror.failure is not None
    gate.drop = reader.drop

    async def settled() -> None:
        await gate.idle.wait()
        await commits.flush()

    gate.settled = settled
    host.add_reader(reader)
    host.drainers.append(settled)

    async def close() -> None:
        with contextlib.suppress(KafkaError, TimeoutError):
            await asyncio.wait_for(producer.stop(), 5)
        await admin.close()

    host.closers.append(close)
