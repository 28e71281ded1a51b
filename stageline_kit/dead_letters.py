"""Records that can never be processed, set aside with their bytes unchanged and `dlq-*` headers that say why."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from contracts import dead_letter_topic
from stageline_kit.connection import kafka_options
from stageline_kit.producer import Producer
from stageline_kit.telemetry import count

log = logging.getLogger(__name__)
WORKERS = "workers"
"""Dead letters of all workers outside are in `stage.tasks.<action>.workers.dlq`, whatever their groups are called."""
TRIES, TRY_S, PAUSE_S = 3, 10.0, 1.0
CONFIGS = {"retention.ms": str(30 * 86_400_000), "max.message.bytes": str(2 << 20)}
"""Settings of a topic of dead letters: each holds a whole record and the reason."""


def letter_headers(record: Any, group: str, code: str, reason: str) -> list[tuple[str, bytes]]:
    """The record's headers, its place, and why `group` gave it up."""
    facts = {
        "dlq-original-topic": record.topic, "dlq-original-partition": record.partition, "dlq-original-offset": record.offset,
        "dlq-group": group, "dlq-code": code, "dlq-reason": reason[:1000], "dlq-failed-at": time.time(),
    }  # fmt: skip
    headers = [(name, value or b"") for name, value in record.headers]
    return headers + [(name, str(value).encode("utf-8", "backslashreplace")) for name, value in facts.items()]


class DeadLetters:
    """The dead letters of a worker's `group`. Nothing is connected before the first of them."""

    def __init__(self, bootstrap_servers: str | None, source: str, group: str, **kafka: Any) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.source = source
        self.group = group
        self.kafka = kafka
        self._topics: set[str] = set()

    async def keep_record(self, record: Any, code: str, reason: str) -> bool:
        """Set a record aside. Returns False, and logs where the record is, when Kafka does not take it."""
        topic = dead_letter_topic(record.topic, WORKERS)
        place = {
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "code": code,
            "reason": reason[:1000],
        }
        headers = letter_headers(record, self.group, code, reason)
        failure: Exception | None = None
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(PAUSE_S)
            try:
                async with asyncio.timeout(TRY_S):
                    await self._send(topic, record, headers)
            except (KafkaError, TimeoutError, LookupError) as error:  # a topic without partitions has no leader yet
                failure = error
                continue
            log.error("a task cannot be read; it is a dead letter now", extra={**place, "dead_letters": topic})
            count("stageline.worker.dead_letters", code=code)
            return True
        log.error("a task cannot be read, and is skipped without a dead letter: %r", failure, extra=place)
        count("stageline.worker.lost_letters", code=code)
        return False

    async def _send(self, topic: str, record: Any, headers: list[tuple[str, bytes]]) -> None:
        if topic not in self._topics:
            await self._create(topic, record.topic)
            self._topics.add(topic)
        async with Producer(self.bootstrap_servers, self.source, **self.kafka) as producer:
            await producer.send_raw(topic, record.key, record.value, headers)

    async def _create(self, topic: str, like: str) -> None:
        admin = AIOKafkaAdminClient(**kafka_options(self.bootstrap_servers, self.kafka))
        await admin.start()
        try:
            if topic in await admin.list_topics():
                return
            (original,) = await admin.describe_topics([like])
            replicas = len(original["partitions"][0]["replicas"])
            response = await admin.create_topics([NewTopic(topic, 1, replicas, topic_configs=CONFIGS)])
            for _, code, *_ in response.topic_errors:
                if code and for_code(code) is not TopicAlreadyExistsError:
                    raise for_code(code)(f"topic {topic} could not be created")
        finally:
            await admin.close()
