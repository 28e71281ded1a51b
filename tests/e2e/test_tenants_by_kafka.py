"""Tenants that work by Kafka: each writes and reads its own two topics and nothing else, and acts for itself whatever a record says."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from cli.client import Client
from contracts import CancelJob, CreateJob, FileRef, JobRequest, Message, PauseJob, Tenancy
from contracts.topics import TOPICS, task_topic, tenant_commands_topic, tenant_events_topic
from shared import clock
from stageline_kit import Producer
from tests.conftest import Pipeline
from tests.e2e.outside import read_all
from tests.eventually import eventually
from tests.kafka_rights import may_read, may_write

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(240)]


class Tenant:
    """A tenant with a Kafka user of its own."""

    def __init__(self, pipeline: Pipeline, name: str) -> None:
        self.pipeline = pipeline
        self.name = name
        self.user = f"tenant-{name}"
        self.commands, self.events = tenant_commands_topic(name).name, tenant_events_topic(name).name
        said = pipeline.command("kafka", "grant", "--tenant", name)
        assert said.returncode == 0 and f"{self.user} has the 7 ACLs" in said.stdout, said.stdout + said.stderr

    def owner(self) -> Tenancy:
        return Tenancy(tenant_id=self.name, user_name="somebody")

    async def publish(self, *messages: Message) -> None:
        async with Producer(self.pipeline.kafka, "/test", **self.pipeline.as_user(self.user)) as producer:
            for message in messages:
                await producer.publish(message, topic=self.commands)

    async def send_bytes(self, value: bytes) -> None:
        async with Producer(self.pipeline.kafka, "/test", **self.pipeline.as_user(self.user)) as producer:
            await producer.send_raw(self.commands, b"k", value, [])

    async def seen(self) -> list[dict[str, Any]]:
        """What the tenant's own program has read from its topic so far, in the order of arrival per key."""
        options = self.pipeline.access_of(self.user).options
        consumer = AIOKafkaConsumer(
            self.events, **options, group_id=f"tenant.{self.name}.test", enable_auto_commit=False, auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            found: list[dict[str, Any]] = []
            for records in (await consumer.getmany(timeout_ms=3000)).values():
                for r in records:
                    headers = {name: value.decode() for name, value in r.headers}
                    found.append(
                        {
                            "type": headers["ce_type"],
                            "id": headers["ce_id"],
                            "tenant": headers["ce_tenant"],
                            **json.loads(r.value),
                        }
                    )
            return found
        finally:
            await consumer.stop()


def job(owner: Tenancy, job_id: str = "order-1", **more: Any) -> CreateJob:
    return CreateJob(
        command_id=f"make {job_id}",
        job_id=job_id,
        owner=owner,
        issued_at=clock.now(),
        job=JobRequest(workflow="noop-five"),
        **more,
    )


async def until_seen(tenant: Tenant, *types: str) -> list[dict[str, Any]]:
    """Everything on the tenant's topic, once it holds an event of each of these types."""

    async def look() -> Any:
        found = await tenant.seen()
        return found if set(types) <= {event["type"] for event in found} else None

    return await eventually(look, 90, 0.5)


@pytest.fixture(scope="module")
def word() -> str:
    return f"k{uuid.uuid4().hex[:6]}"


@pytest.fixture(scope="module")
def acme(pipeline: Pipeline, word: str) -> Tenant:
    return Tenant(pipeline, word)


@pytest.fixture(scope="module")
def other(pipeline: Pipeline, word: str) -> Tenant:
    """A tenant whose id begins with that of the first."""
    return Tenant(pipeline, f"{word}-2")


async def test_a_tenant_reads_and_writes_its_own_topics_alone(pipeline: Pipeline, acme: Tenant, other: Tenant) -> None:
    access = pipeline.access_of(acme.user)
    names = [t.name for t in TOPICS] + [
        task_topic("noop").name,
        "tenants.commands.ingest-tenants.dlq",
        other.commands,
        other.events,
    ]
    reads = await asyncio.gather(*(may_read(access, name) for name in [*names, acme.commands, acme.events]))
    writes = await asyncio.gather(*(may_write(access, name) for name in [*names, acme.events]))
    assert [name for name, yes in zip([*names, acme.commands, acme.events], reads, strict=True) if yes] == [
        "seal.keys",
        acme.events,
    ]
    assert [name for name, yes in zip([*names, acme.events], writes, strict=True) if yes] == []


async def test_a_record_that_claims_another_tenant_acts_for_its_own(pipeline: Pipeline, acme: Tenant, other: Tenant) -> None:
    forged = job(other.owner())
    await acme.publish(forged, forged)
    await other.publish(job(other.owner()))
    for tenant in (acme, other):
        found = await until_seen(tenant, "stageline.job.finished.v1")
        mine = [e for e in found if e["type"].startswith("stageline.job.") and "event" in e]
        assert {e["tenant"] for e in found} == {tenant.name}
        assert {e["event"]["job_id"] for e in mine} == {f"{tenant.name}:order-1"}
        assert [e["event"]["sequence"] for e in mine] == list(range(1, len(mine) + 1)), "in order, and each once"
    made = [json.loads(r.value) for r in await read_all(pipeline, "job.commands") if b'order-1"' in r.value]
    assert sorted(m["owner"]["tenant_id"] for m in made) == sorted([acme.name, other.name]), "one command for each tenant"


async def test_what_a_tenant_may_not_command_is_refused_by_an_event(pipeline: Pipeline, acme: Tenant, other: Tenant) -> None:
    mine = acme.owner()
    stolen = FileRef(file_id="f", file_name="f.pdf", blob_name=f"{other.name}/aa/{'a' * 64}")
    theirs = CancelJob(command_id="c-theirs", job_id=f"{other.name}:order-1", owner=other.owner(), issued_at=clock.now())
    verb = PauseJob(command_id="c-pause", job_id="order-1", owner=mine, issued_at=clock.now())
    await acme.publish(job(mine, "stolen", files=(stolen,)), verb, theirs)
    await acme.send_bytes(b"\xff not json")

    async def answered() -> Any:
        found = {e["command_id"]: e for e in await acme.seen() if e["type"] == "stageline.job.command_decided.v1"}
        return found if len(found) >= 3 else None

    found = await eventually(answered, 90, 0.5)
    assert found[f"{acme.name}:make stolen"]["code"] == "foreign_object"
    assert found[f"{acme.name}:c-pause"]["code"] == "not_allowed"
    assert found[f"{acme.name}:c-theirs"]["code"] == "unknown_job", "another tenant's job is nobody's"
    assert not any(e["ok"] for e in found.values())

    async def dead_lettered() -> bool:
        letters = [dict(r.headers) for r in await read_all(pipeline, "tenants.commands.ingest-tenants.dlq")]
        return acme.commands.encode() in {h["dlq-original-topic"] for h in letters}

    await eventually(dead_lettered, 30, 0.5)


async def test_a_tenant_whose_grant_is_revoked_is_out(pipeline: Pipeline, client: Client, word: str) -> None:
    gone = Tenant(pipeline, f"{word}-gone")
    await gone.publish(job(gone.owner()))
    await until_seen(gone, "stageline.job.finished.v1")
    options = pipeline.access_of(gone.user).options
    said = await asyncio.to_thread(pipeline.command, "kafka", "revoke", "--tenant", gone.name)
    assert said.returncode == 0, said.stderr
    consumer = AIOKafkaConsumer(gone.events, **options, group_id=None, enable_auto_commit=False)
    with pytest.raises(KafkaError):
        await consumer.start()
    await consumer.stop()
    # The services go on without the topics, and the next tenant is served.
    after = Tenant(pipeline, f"{word}-after")
    await after.publish(job(after.owner()))
    await until_seen(after, "stageline.job.finished.v1")


@pytest.mark.parametrize("name", ["a.b", "a*", "", "-a", "a" * 101])
def test_an_id_that_would_open_other_topics_is_refused(pipeline: Pipeline, name: str) -> None:
    said = pipeline.command("kafka", "grant", f"--tenant={name}")
    assert said.returncode == 2 and "cannot work by Kafka" in said.stderr, said.stderr
