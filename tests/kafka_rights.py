"""What a Kafka user may do, tried on a broker."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError

from shared.kafka.connection import KafkaAccess


async def may_write(access: KafkaAccess, topic: str) -> bool:
    """True when the user can write to the topic. A permitted write leaves an undecodable record."""
    # Without idempotence: a user who may write nothing at all would be refused at the start, before the topic is named.
    producer = AIOKafkaProducer(**access.options, request_timeout_ms=3000)
    await producer.start()
    try:
        # Undecodable on purpose, so that a permitted write starts no work.
        await producer.send_and_wait(topic, b"?", b"acl-test", partition=0)
    except TopicAuthorizationFailedError:
        return False
    except KafkaError as error:
        if "Authorization" in repr(error) or "UnknownTopicOrPartition" in repr(error) or "KafkaTimeout" in repr(error):
            return False
        raise
    finally:
        await producer.stop()
    return True


async def may_read(access: KafkaAccess, topic: str) -> bool:
    """True when the user can read the topic's records."""
    consumer = AIOKafkaConsumer(**access.options, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        await asyncio.wait_for(consumer.position(TopicPartition(topic, 0)), 5)
        # A user who may only write may look up the topic, but not read its records.
        await consumer.getmany(timeout_ms=2000)
    except (TopicAuthorizationFailedError, TimeoutError):
        return False
    except KafkaError as error:
        if "Authorization" in repr(error):
            return False
        raise
    finally:
        await consumer.stop()
    return True
