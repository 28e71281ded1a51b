"""A static member that its group knows under another id by now comes back under a new one, and reads on."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from shared.kafka import record_reader
from tests.eventually import eventually
from tests.integration.test_fetching import reading, topic_of

pytestmark = pytest.mark.kafka


def member_of(kafka_url: str, topic: str, group: str) -> Any:
    return AIOKafkaConsumer(
        topic, bootstrap_servers=kafka_url, group_id=group, group_instance_id="a", session_timeout_ms=8_000, heartbeat_interval_ms=500,
        auto_offset_reset="earliest", enable_auto_commit=False,
    )  # fmt: skip


async def test_a_member_with_an_id_of_yesterday_reads_on(kafka_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_reader, "ERROR_PAUSE_S", 0.1)
    topic, group = await topic_of(kafka_url), uuid.uuid4().hex
    member = member_of(kafka_url, topic, group)
    async with AIOKafkaProducer(bootstrap_servers=kafka_url) as producer, reading(member) as read:
        await producer.send_and_wait(topic, b"before", partition=3)
        assert await read.next(1) == [(3, 0, b"before")]
        yesterdays = member._coordinator.member_id
        # Another process under the same name comes and goes: the group's member has its id now.
        async with reading(member_of(kafka_url, topic, group)) as twin:
            assert twin.consumer._coordinator.member_id != yesterdays
        member._coordinator.member_id = yesterdays
        member._coordinator.request_rejoin()
        await producer.send_and_wait(topic, b"after", partition=3)

        async def read_on() -> bool:
            return isinstance(read.reader.failed_with, KafkaError) and b"after" in [r.value for r in read.records]

        await eventually(read_on, 30)
        assert member._coordinator.member_id != yesterdays and read.reader.failing_since is None
