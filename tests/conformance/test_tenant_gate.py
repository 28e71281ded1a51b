"""The gate of tenants that work by Kafka: each record has one effect, in the tenant's name, within its quota."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import text

from contracts import CreateJob, JobRequest, Message, OpenSession, Tenancy, to_record
from contracts.topics import tenant_commands_topic
from services.ingest import tenant_gate
from services.ingest.adapters.store.accounts import save_tenant
from services.ingest.settings import IngestSettings
from shared.database.store import Store
from shared.processing.records import Inbound
from shared.processing.unit_of_work import Unit
from shared.telemetry.tracing import Telemetry
from tests.conformance.conftest import Opener
from tests.contracts.examples import AT

FORGED = Tenancy(tenant_id="other", user_name="root")


def job(name: str) -> CreateJob:
    return CreateJob(command_id=f"make {name}", job_id=name, owner=FORGED, issued_at=AT, job=JobRequest())


async def take(store: Store, tenant: str, *messages: Message) -> list[tuple[str, dict[str, Any]]]:
    """Hand records of a tenant's topic to the gate; returns what it publishes, as topic and value."""
    topic = tenant_commands_topic(tenant).name
    batch = []
    for offset, message in enumerate(messages):
        record = to_record(message, "/test")
        batch.append(Inbound(message, topic, 0, offset, 1.0, record.key, record.value, record.headers))

    def work(connection: Any) -> list[tuple[str, dict[str, Any]]]:
        unit = Unit(connection, 1_800_000_000.0, "/test", Telemetry("test", "test"))
        tenant_gate.on_batch(unit, batch, IngestSettings())
        return [(out.topic, json.loads(out.value)) for out in unit.outgoing]

    found: list[tuple[str, dict[str, Any]]] = await store.transact(work)
    return found


async def test_a_record_counts_once_and_for_its_topics_tenant(opened: Opener) -> None:
    store = await opened("ingest")
    [(topic, made)] = await take(store, "acme", job("order-1"), job("order-1"))
    assert (topic, made["job_id"], made["command_id"]) == ("job.commands", "acme:order-1", "acme:make order-1")
    assert (made["owner"]["tenant_id"], made["owner"]["user_name"]) == ("acme", "kafka")
    assert await take(store, "acme", job("order-1")) == [], "delivered again"
    [(_, theirs)] = await take(store, "globex", job("order-1"))
    assert theirs["job_id"] == "globex:order-1", "the same ids of another tenant are no repeat"
    opening = OpenSession(command_id="o", session_id="s", owner=FORGED, issued_at=AT)
    [(topic, session)] = await take(store, "acme", opening)
    assert (topic, session["session_id"], session["owner"]["tenant_id"]) == ("session.commands", "acme:s", "acme")


async def test_a_quota_holds_within_one_batch_and_a_refusal_is_not_for_ever(opened: Opener) -> None:
    store = await opened("ingest")
    await store.transact(lambda c: save_tenant(c, "acme", "Acme", {"jobs_open": 2}, None, 0.0))
    found = await take(store, "acme", *(job(f"j{n}") for n in range(4)))
    assert [topic for topic, _ in found] == ["job.commands", "job.commands", "job.answers", "job.answers"]
    assert found[0][1]["owner"]["tenant_name"] == "Acme"
    refused = found[2][1]
    assert (refused["ok"], refused["code"], refused["verb"], refused["tenant_id"]) == (False, "quota_exceeded", "create", "acme")
    assert (refused["command_id"], refused["job_id"]) == ("acme:make j2", "acme:j2")
    await store.transact(lambda c: save_tenant(c, "acme", "Acme", {}, None, 0.0))
    assert [topic for topic, _ in await take(store, "acme", job("j2"))] == ["job.commands"]


async def test_the_id_of_an_erased_job_stays_used(opened: Opener) -> None:
    store = await opened("ingest")
    columns = await store.read(lambda c: c.execute(text("SELECT * FROM erased")).keys())
    values = {name: "acme:gone" if name == "job_id" else "acme" if "tenant" in name else 0.0 for name in columns}
    enter = text(f"INSERT INTO erased ({', '.join(values)}) VALUES ({', '.join(f':{name}' for name in values)})")
    await store.transact(lambda c: c.execute(enter, values) and None)
    [(topic, refused)] = await take(store, "acme", job("gone"))
    assert (topic, refused["code"]) == ("job.answers", "erased")
