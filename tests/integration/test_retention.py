"""Topics of an earlier release get the shorter retention of the table; what an operator has set stays."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError

from contracts.topics import SESSION_COMMANDS_TOPIC
from shared.kafka.connection import KafkaAccess
from shared.kafka.topics import EARLIER_S, TopicSizes, _own_settings, ensure_topics, shorten_retention

pytestmark = pytest.mark.kafka


async def test_a_retention_of_an_earlier_release_is_shortened(kafka_url: str) -> None:
    access = KafkaAccess(bootstrap_servers=kafka_url)
    mark = uuid.uuid4().hex[:8]
    earlier, own, new, foreign = (f"{kind}-{mark}" for kind in ("earlier", "own", "new", "foreign"))
    topics = [replace(SESSION_COMMANDS_TOPIC, name=name) for name in (earlier, own, new)]
    admin = AIOKafkaAdminClient(**access.options)
    await admin.start()
    month = {"retention.ms": str(EARLIER_S * 1000)}
    made = [
        NewTopic(earlier, 1, 1, topic_configs={**month, "segment.ms": "3600000"}),
        NewTopic(own, 1, 1, topic_configs={"retention.ms": "86400000000"}), NewTopic(foreign, 1, 1, topic_configs=month),
    ]  # fmt: skip
    answer = await admin.create_topics(made)
    assert not [code for _, code, *_ in answer.topic_errors if code and code != TopicAlreadyExistsError.errno]
    await ensure_topics(access, topics, TopicSizes(1, 1, 1))
    assert await shorten_retention(access, topics) == [earlier]
    assert await shorten_retention(access, topics) == []
    settings = await _own_settings(admin, [earlier, own, new, foreign])
    await admin.close()
    week = str(7 * 86_400 * 1000)
    assert settings[earlier] == {"retention.ms": week, "segment.ms": "3600000"}
    assert settings[own]["retention.ms"] == "86400000000" and settings[foreign] == month and settings[new]["retention.ms"] == week
