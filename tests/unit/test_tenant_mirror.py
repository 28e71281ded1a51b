"""Events of tenants are copied as they are. While they cannot be, the process says so, and one that never can again is given up."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from aiokafka.errors import KafkaError

from services.notifier.adapters.tenant_mirror import TenantMirror
from shared.errors import Stop
from shared.runtime.health import Health
from tests.eventually import eventually
from tests.unit.fake_relay import NotingRelay


class Grants:
    """Every record belongs to the tenant `acme`."""

    at = 0.0

    async def of(self, records: Any) -> list[tuple[str, Any]]:
        return [("acme", record) for record in records]


class Commits:
    def __init__(self) -> None:
        self.done: list[Any] = []

    def mark_done(self, offsets: Any) -> None:
        self.done.append(offsets)


def mirror() -> tuple[TenantMirror, NotingRelay, Commits]:
    relay, commits = NotingRelay(), Commits()
    gate = SimpleNamespace(closed=False, idle=asyncio.Event())
    return TenantMirror(Grants(), relay, commits, gate), relay, commits  # type: ignore[arg-type]


RECORD = SimpleNamespace(
    topic="job.events", partition=0, offset=4, timestamp=0, key=b"job-1", value=b"{}",
    headers=(("ce_tenant", b"acme"), ("empty", None)),
)  # fmt: skip


async def test_an_outage_is_said_and_nothing_is_committed_before_the_copy() -> None:
    made, relay, commits = mirror()
    relay.down = True
    copying = asyncio.create_task(made.on_records([RECORD]))
    reason = await eventually(made.ready)
    assert reason == "events of tenants are not copied: down", reason
    assert relay.sent == [] and commits.done == []
    relay.down = False
    await copying
    assert await made.ready() is None and len(commits.done) == 1
    [row] = relay.sent
    assert (row.topic, row.key, row.value) == ("tenant.acme.events", b"job-1", b"{}")
    assert row.headers == (("ce_tenant", b"acme"), ("empty", b""))


async def test_a_producer_that_can_never_send_again_ends_the_process() -> None:
    _, relay, _ = mirror()
    relay.broken = KafkaError("the sending task has ended")
    found: list[Stop] = []
    watching = asyncio.create_task(Health().watch(lambda: [relay], found.append))
    await asyncio.wait_for(watching, 20)
    assert [stop.code for stop in found] == ["producer_broken"]
