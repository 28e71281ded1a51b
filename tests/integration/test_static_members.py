"""A static member's name stands for its topics, so two members with different topics need different names."""

from __future__ import annotations

import uuid

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from tests.eventually import eventually
from tests.integration.test_fetching import topic_of

pytestmark = pytest.mark.kafka


async def test_a_known_name_gets_its_old_partitions_and_a_new_name_its_own(kafka_url: str) -> None:
    both = [await topic_of(kafka_url), await topic_of(kafka_url)]
    group = uuid.uuid4().hex

    def member(name: str, *topics: str) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            *topics, bootstrap_servers=kafka_url, group_id=group, group_instance_id=name, session_timeout_ms=8_000
        )

    old = member("door", *both)
    await old.start()
    await old.stop()  # a static member stays in its group
    again = member("door", both[0])
    with pytest.raises(KafkaError, match="unsubscribed topic"):
        await again.start()
    await again.stop()
    other = member("door-answers", both[0])
    await other.start()

    async def has_all() -> bool:
        return {(tp.topic, tp.partition) for tp in other.assignment()} == {
            (both[0], p) for p in other.partitions_for_topic(both[0])
        }

    await eventually(has_all, 40)  # once the session of the one that went away is over
    await other.stop()
