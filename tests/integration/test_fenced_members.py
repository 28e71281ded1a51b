"""A static member that its group knows under another id by now comes back under a new one, and reads on."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from shared.kafka.consumer import WaitingConsumer
from tests.eventually import eventually
from tests.integration.test_fetching import topic_of

pytestmark = pytest.mark.kafka


@contextlib.asynccontextmanager
async def member_of(kafka_url: str, topic: str, group: str) -> AsyncIterator[WaitingConsumer]:
    made = WaitingConsumer(
        topic, bootstrap_servers=kafka_url, group_id=group, group_instance_id="a", session_timeout_ms=8_000, heartbeat_interval_ms=500,
        auto_offset_reset="earliest", enable_auto_commit=False,
    )  # fmt: skip
    await made.start()
    yield made
    await made.stop()


async def test_a_member_with_an_id_of_yesterday_reads_on(kafka_url: str) -> None:
    topic, group = await topic_of(kafka_url), uuid.uuid4().hex
    async with AIOKafkaProducer(bootstrap_servers=kafka_url) as producer, member_of(kafka_url, topic, group) as member:
        await producer.send_and_wait(topic, b"before", partition=3)
        assert [r.value for records in (await member.getmany()).values() for r in records] == [b"before"]
        yesterdays = member._coordinator.member_id
        # Another process under the same name comes and goes: the group's member has its id now.
        async with member_of(kafka_url, topic, group) as twin:
            assert twin._coordinator.member_id != yesterdays
        member._coordinator.member_id = yesterdays
        member._coordinator.request_rejoin()
        await producer.send_and_wait(topic, b"after", partition=3)
        seen: set[bytes] = set()
        refused: list[KafkaError] = []

        async def read() -> bool:
            try:
                seen.update(r.value for records in (await member.getmany()).values() for r in records)
            except KafkaError as error:
                refused.append(error)  # FastStream logs it and asks again
            return bool(refused) and b"after" in seen

        await eventually(read, 30)
        assert len(refused) <= 2 and member._coordinator.member_id != yesterdays
