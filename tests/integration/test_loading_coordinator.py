"""A real broker after its crash: while its coordinator loads, no answer about a group's offsets may read as "nothing is committed"."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import pytest
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.errors import KafkaError
from aiokafka.protocol.commit import OffsetFetchRequest

from cli.local.plan import free_ports
from shared.embedded.kafka import EmbeddedKafka
from stageline_kit.group_consumer import GroupConsumer, answer_of_each
from tests.eventually import eventually
from tests.integration.test_fetching import PARTITIONS, topic_of


@pytest.mark.slow
async def test_a_group_keeps_its_offsets_when_the_broker_was_killed(tmp_path: Path) -> None:
    broker = EmbeddedKafka(tmp_path / "kafka", *free_ports(2))
    await asyncio.to_thread(broker.prepare)
    process = await start(broker)
    try:
        topic = await eventually(lambda: made(broker.bootstrap), 90, 0.5)
        member = GroupConsumer(topic, bootstrap_servers=broker.bootstrap, group_id="g", enable_auto_commit=False)
        await member.start()
        await member.commit(dict.fromkeys(member.assignment(), 7))
        await member.stop()
        process.kill()
        await process.wait()
        process = await start(broker)
        client = AIOKafkaClient(bootstrap_servers=broker.bootstrap)
        await eventually(lambda: connected(client), 90)
        bare, checked = await answers(client, topic)
        await client.close()
        assert [] in bare, "this broker did not answer as such a broker does, so that the test shows nothing"
        assert checked - {(-1, 14), (-1, 16)} == {(7, 0)}
    finally:
        process.kill()
        await process.wait()


async def start(broker: EmbeddedKafka) -> asyncio.subprocess.Process:
    null = asyncio.subprocess.DEVNULL
    return await asyncio.create_subprocess_exec(*broker.command, stdout=null, stderr=null)


async def connected(client: AIOKafkaClient) -> bool:
    try:
        await client.bootstrap()
    except KafkaError:
        return False
    return True


async def made(bootstrap: str) -> str:
    """A new topic; empty while the broker starts."""
    try:
        return await topic_of(bootstrap)
    except KafkaError:
        return ""


async def answers(client: AIOKafkaClient, topic: str) -> tuple[list[list[object]], set[tuple[int, int]]]:
    """The topics in each bare answer, and (offset, error) of all checked ones, until the coordinator was away and has answered well for 3 s."""
    asked = [(topic, list(range(PARTITIONS)))]
    bare: list[list[object]] = []
    checked: set[tuple[int, int]] = set()
    well_since, ends = None, time.monotonic() + 40
    while time.monotonic() < ends and (well_since is None or time.monotonic() - well_since < 3):
        response = None
        with contextlib.suppress(KafkaError):
            response = await client.send(1, OffsetFetchRequest("g", asked), group=ConnectionGroup.COORDINATION)
        if response is None:
            continue
        bare.append(response.topics)
        found = {(offset, error) for _, partitions in answer_of_each(asked, response) for _, offset, _, error in partitions}
        checked |= found
        well_since = (well_since or time.monotonic()) if found == {(7, 0)} and [] in bare else None
    return bare, checked
