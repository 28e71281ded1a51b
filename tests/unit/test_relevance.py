"""The notifier decodes records for tenants with an endpoint and skips others by a header."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from aiokafka import ConsumerRecord
from sqlalchemy import Connection

from contracts.topics import JOB_COMMANDS_TOPIC, JOB_ERASURES_TOPIC, JOB_EVENTS_TOPIC
from services.notifier.adapters import sql_store as db
from services.notifier.handlers import EndpointTenants
from shared.database.migrate import migrate
from shared.database.open import open_store
from shared.processing.processor import BatchProcessor
from shared.processing.records import Inbound
from shared.processing.subscription import Subscription
from shared.processing.unit_of_work import Unit
from tests.unit.fake_relay import CREATE, record
from tests.unit.test_subscription import NotingConsumer


def made(topic: str, tenant: bytes | None) -> Any:
    headers = () if tenant is None else (("ce_type", b"x"), ("ce_tenant", tenant))
    return ConsumerRecord(topic, 0, 0, 0, 0, b"k", b"v", None, 0, 0, headers)


async def test_events_of_tenants_without_an_endpoint_are_skipped(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/notifier.db")
    await migrate(store, "notifier")
    relevance = EndpointTenants(store, [JOB_EVENTS_TOPIC])
    events = [made(JOB_EVENTS_TOPIC.name, tenant) for tenant in (b"with", b"without", None)]
    command = made(JOB_ERASURES_TOPIC.name, b"without")
    assert await relevance.select([*events, command]) == [events[2], command], (
        "an event without a tenant may belong to any of them"
    )

    def enter(connection: Connection) -> None:
        row = {"id": "e", "tenant_id": "with", "url": "u", "secret": "s", "events": "[]", "description": "", "created_at": 0.0}
        connection.execute(db.EndpointRow.__table__.insert(), row)  # type: ignore[attr-defined]

    await store.transact(enter)
    assert await relevance.select([*events, command]) == [events[0], events[2], command]
    await store.close()


async def test_an_irrelevant_batch_is_committed_without_a_transaction(
    processor: BatchProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    handled: list[int] = []

    def note(unit: Unit, batch: Sequence[Inbound]) -> None:
        handled.append(len(batch))

    async def odd(records: Sequence[Any]) -> list[Any]:
        return [r for r in records if r.offset % 2]

    subscription = Subscription(processor, [JOB_COMMANDS_TOPIC], "g", note)
    subscription.select_relevant = odd
    consumer = NotingConsumer()
    monkeypatch.setattr(Subscription, "consumer", property(lambda self: consumer))
    for offsets in ((0,), (2, 3, 5), (6,)):
        await subscription.on_batch([record(CREATE, n) for n in offsets])
    await subscription._settled()
    assert handled == [1] and consumer.committed[-1] == 7
