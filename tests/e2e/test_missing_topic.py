"""A task topic that is gone stops its own jobs alone, with a reason; it is made again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from cli.client import Client
from shared.errors import Retry
from shared.kafka.clients import make_producer
from shared.kafka.outgoing import Outgoing
from shared.processing.outbox import Relay
from shared.telemetry.tracing import Telemetry
from tests.e2e.outside import read_all
from tests.e2e.test_control import make
from tests.e2e.test_gateway import ended
from tests.eventually import eventually
from tests.pipelines import RestartablePipeline

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
LATE = "stage.tasks.acme.late"


async def publish_late(client: Client) -> None:
    definition = {"name": "late", "version": 1, "steps": [{"name": "wait", "action": "acme.late", "scope": "job"}]}
    await client.call("POST", "/v1/workflows/late/publish", json=definition)


async def delete(pipeline: RestartablePipeline, topic: str) -> None:
    admin = AIOKafkaAdminClient(**pipeline.access.options)
    await admin.start()
    try:
        await admin.delete_topics([topic])

        async def gone() -> bool:
            return topic not in await admin.list_topics()

        await eventually(gone, 20)
    finally:
        await admin.close()


async def create(pipeline: RestartablePipeline, topic: str) -> None:
    admin = AIOKafkaAdminClient(**pipeline.access.options)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 2, 1)])
    await admin.close()


async def readiness(pipeline: RestartablePipeline) -> tuple[int, dict[str, Any]]:
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{pipeline.state['ports']['job_orchestrator']}/health/ready") as got,
    ):
        return got.status, await got.json()


async def tasks_of(pipeline: RestartablePipeline, job: str) -> list[bytes]:
    return [r.value for r in await read_all(pipeline, LATE) if job.encode() in r.value]


@pytest.mark.timeout(200)
async def test_one_missing_topic_stops_its_own_jobs_alone(restartable: RestartablePipeline) -> None:
    async with Client(restartable.target()) as client:
        await publish_late(client)
    # The orchestrator may not make it again, as under an administrator who makes topics by hand.
    await asyncio.to_thread(restartable.restart, STAGELINE_CREATE_TOPICS="0")
    await delete(restartable, LATE)
    async with Client(restartable.target()) as client:
        late = await make(client, "late")
        others = [await make(client, "noop-five") for _ in range(5)]
        for job in others:
            await asyncio.wait_for(ended(client, job), 40)

        await says_why(restartable, client, late)
        await create(restartable, LATE)

        async def sent() -> bool:
            return len(await tasks_of(restartable, late)) == 1

        await eventually(sent, 40)

        async def well() -> bool:
            why = await client.call("GET", f"/v1/jobs/{late}/why")
            return str(why["code"]) == "no_worker" and "held_back" not in (await readiness(restartable))[1].get("details", {})

        await eventually(well, 30)


async def says_why(pipeline: RestartablePipeline, client: Client, job: str) -> None:
    """`why` names the topic, and so does readiness, which stays good."""

    why: dict[str, Any] = {}

    async def told() -> bool:
        why.update(await client.call("GET", f"/v1/jobs/{job}/why"))
        return str(why["code"]) == "not_sent"

    try:
        await eventually(told, 30)
    finally:
        print(why)
    assert LATE in why["message"] and "does not exist" in why["message"], why

    async def shown() -> bool:
        status, said = await readiness(pipeline)
        assert status == 200, said
        return LATE in said.get("details", {}).get("held_back", {})

    await eventually(shown, 20)


@pytest.mark.slow
@pytest.mark.timeout(200)
async def test_a_missing_topic_is_made_again(restartable: RestartablePipeline) -> None:
    await asyncio.to_thread(restartable.restart)
    async with Client(restartable.target()) as client:
        await publish_late(client)
        await delete(restartable, LATE)
        late = await make(client, "late")

        async def sent() -> bool:
            return LATE in await topics(restartable) and bool(await tasks_of(restartable, late))

        await eventually(sent, 60)
        # A topic of the services: the supervisor makes it.
        await delete(restartable, "job.state")
        job = await make(client, "noop-five")
        await asyncio.wait_for(ended(client, job), 40)

        async def stated() -> bool:
            return "job.state" in await topics(restartable) and any(
                r.key == job.encode() for r in await read_all(restartable, "job.state")
            )

        await eventually(stated, 60)


async def topics(pipeline: RestartablePipeline) -> set[str]:
    admin = AIOKafkaAdminClient(**pipeline.access.options)
    await admin.start()
    found = set(await admin.list_topics())
    await admin.close()
    return found


async def test_a_topic_that_may_not_be_written_is_no_outage(restartable: RestartablePipeline, tmp_path: Path) -> None:
    producer = await make_producer(restartable.access_of("producer"), "no-rights")
    try:
        relay = Relay(producer, Telemetry("t", "i"), "t")
        for _ in range(2):
            refused = await relay.send_in_order([Outgoing("job.events", b"k", b"{}", ())])
            assert [one.code for one in refused] == ["not_authorized"] and "job.events" in refused[0].reason
        assert relay.broken is None
        with pytest.raises(Retry, match="may not write"):
            await relay.send_records([Outgoing("job.events", b"k", b"{}", ())])
    finally:
        await producer.stop()
