"""A producer reports when the broker no longer accepts its sequence numbers, because only a new producer can send then."""

from __future__ import annotations

import pytest
from aiokafka.structs import TopicPartition

from shared.errors import Retry
from shared.kafka.clients import make_producer
from shared.kafka.connection import KafkaAccess
from shared.kafka.outgoing import Outgoing
from shared.processing.outbox import Relay
from shared.telemetry.tracing import Telemetry
from tests.integration.test_fetching import topic_of

pytestmark = pytest.mark.kafka


async def test_a_gap_in_the_sequence_numbers_is_recognised(kafka_url: str) -> None:
    topic = await topic_of(kafka_url)
    producer = await make_producer(KafkaAccess(bootstrap_servers=kafka_url), "gap")
    try:
        relay = Relay(producer, Telemetry("t", "i"), "t")
        await relay.send_records([Outgoing(topic, b"k", b"one", ())])
        assert relay.broken is None
        # aiokafka does this to the sequence number of a batch that the broker refuses for good.
        [place] = [tp for tp, n in producer._txn_manager._sequence_numbers.items() if tp.topic == topic and n]
        assert isinstance(place, TopicPartition)
        producer._txn_manager.increment_sequence_number(place, 1)
        for _ in range(2):
            with pytest.raises(Retry, match="publish failed"):
                await relay.send_records([Outgoing(topic, b"k", b"two", ())])
        assert relay.broken is not None and "OutOfOrderSequenceNumber" in repr(relay.broken)
    finally:
        await producer.stop()
