"""Sends keyed records as one ready-made batch per partition, which costs a third of the CPU time of one send per record.

The partition is the murmur2 hash of the key, as in every Kafka client's default partitioner, so that records of one job from other
producers share its partition.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError, UnknownTopicOrPartitionError
from aiokafka.partitioner import murmur2
from aiokafka.structs import TopicPartition

from shared.kafka.outgoing import Outgoing
from shared.kafka.refusals import MISSING, TOO_LARGE, Refused, code_of
from shared.kafka.topics import max_record_bytes

MISSING_AFTER_S = 2.0
"""How long the brokers must know nothing of a topic until it counts as missing: they learn of a new one within that time."""
LOOK_S = 0.5
"""How often topics are looked for while an acknowledgement is missing."""


@lru_cache(maxsize=100_000)
def key_hash(key: bytes) -> int:
    """The non-negative murmur2 hash of a key. Cached: the hash is pure Python, and a job's key is used many times."""
    return int(murmur2(key)) & 0x7FFFFFFF


class _Sent(NamedTuple):
    """Records in the producer's hands, and the future of their acknowledgement."""

    rows: Sequence[Outgoing]
    future: asyncio.Future[Any]


class ProducerBatches:
    """Puts records into batches of one producer, in the given order within each partition."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self.producer = producer

    async def send(self, rows: Sequence[Outgoing], singly: bool = False) -> list[Refused]:
        """Send `rows` and return when Kafka has them, with those that it refuses for their own sake.

        A record without a key gets a random partition. `singly`: through the producer's own batches, which records of several callers
        share. A ready-made batch waits until the one before it has left, so that many callers with one record each would wait in line.
        Raises `KafkaError` for an outage.
        """
        counts, codes = await self._partitions({row.topic for row in rows})
        refused, fitting = _sorted_out(rows, codes)
        return refused + await self._acknowledged(await (self._singly if singly else self._batches)(fitting, counts))

    async def existing_topics(self) -> set[str]:
        """Names of the topics that this producer's user may see. Raises `KafkaError`."""
        return set((await self.producer.client.fetch_all_metadata()).topics(exclude_internal_topics=False))

    async def _batches(self, rows: Sequence[Outgoing], counts: Mapping[str, int]) -> list[_Sent]:
        groups: dict[TopicPartition, list[Outgoing]] = {}
        for row in rows:
            groups.setdefault(_place(row, counts), []).append(row)
        sent: list[_Sent] = []
        for place, group in groups.items():
            builder, taken = self.producer.create_batch(), 0
            for n, row in enumerate(group):
                if not _append(builder, row):
                    sent.append(await self._hand_over(builder, place, group[taken:n]))
                    builder, taken = self.producer.create_batch(), n
                    _append(builder, row)
            sent.append(await self._hand_over(builder, place, group[taken:]))
        return sent

    async def _hand_over(self, builder: Any, place: TopicPartition, rows: Sequence[Outgoing]) -> _Sent:
        return await self._noted(place, rows, lambda: self.producer.send_batch(builder, place.topic, partition=place.partition))

    async def _singly(self, rows: Sequence[Outgoing], counts: Mapping[str, int]) -> list[_Sent]:
        return [await self._hand_over_one(row, _place(row, counts)) for row in rows]

    async def _hand_over_one(self, row: Outgoing, place: TopicPartition) -> _Sent:
        key, value, headers = row.key or None, row.value or None, list(row.headers)
        return await self._noted(
            place, [row], lambda: self.producer.send(row.topic, value, key, partition=place.partition, headers=headers)
        )

    async def _noted(self, place: TopicPartition, rows: Sequence[Outgoing], enqueue: Callable[[], Awaitable[Any]]) -> _Sent:
        try:
            # Again: another topic's look-up may have shown that this one is gone. The producer would wait for it.
            await self._look_up(place.topic)
            future = await enqueue()
        except KafkaError as error:
            if code_of(error) is None:
                raise
            refused: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            refused.set_exception(error)
            return _Sent(rows, refused)
        future.add_done_callback(partial(self._renumber, place, len(rows)))
        return _Sent(rows, future)

    def _renumber(self, place: TopicPartition, count: int, future: asyncio.Future[Any]) -> None:
        """Give the sequence numbers of refused records to the next ones of the partition.

        aiokafka numbers a batch before it sends it. A batch that the broker refuses for good would leave a gap, and the broker would
        refuse all later batches of the partition. Where a later one has its numbers already, the producer counts as broken.
        """
        error = None if future.cancelled() else future.exception()
        numbers = self.producer._txn_manager
        if numbers is None or code_of(error) is None:
            return
        numbered = self.producer._message_accumulator._pending_batches
        if not any(batch.tp == place and not batch.future.done() for batch in numbered):
            numbers._sequence_numbers[place] = max(0, numbers._sequence_numbers[place] - count)

    async def _acknowledged(self, sent: Sequence[_Sent]) -> list[Refused]:
        """Wait for the acknowledgements. Raises the first error of an outage, once no record is on its way any more."""
        waiting: Collection[asyncio.Future[Any]] = {one.future for one in sent}
        missing: dict[str, float] = {}
        while waiting:
            _, waiting = await asyncio.wait(waiting, timeout=LOOK_S)
            for topic in {one.rows[0].topic for one in sent if one.future in waiting}:
                self._give_up_if_gone(topic, missing)
        refused: list[Refused] = []
        outage: BaseException | None = None
        for rows, future in sent:
            error = future.exception()
            code = code_of(error)
            if code is None and error is not None and missing.get(rows[0].topic, time.monotonic()) < _long_ago():
                code = MISSING
            if code is None:
                outage = outage or error
            else:
                refused += [Refused(row, code) for row in rows]
        if outage is not None:
            raise outage
        return refused

    def _give_up_if_gone(self, topic: str, missing: dict[str, float]) -> None:
        """Let the producer drop what it holds for a topic that was deleted. An idempotent one would try for ever, without a pause."""
        if self.producer.client.cluster.partitions_for_topic(topic):
            missing.pop(topic, None)
        elif missing.setdefault(topic, time.monotonic()) < _long_ago():
            self.producer.client._topics.discard(topic)
            for place, batches in self.producer._message_accumulator._batches.items():
                for batch in batches if place.topic == topic else ():
                    batch._ttl = 0.0

    async def _partitions(self, topics: Iterable[str]) -> tuple[dict[str, int], dict[str, str]]:
        """The number of partitions of each topic, and the codes of those that cannot be written."""
        counts: dict[str, int] = {}
        codes: dict[str, str] = {}
        for topic in topics:
            try:
                counts[topic] = await self._look_up(topic)
            except KafkaError as error:
                code = code_of(error)
                if code is None:
                    raise
                codes[topic] = code
        return counts, codes

    async def _look_up(self, topic: str) -> int:
        # As `AIOKafkaProducer.partitions_for`, which takes a minute for a missing topic, as if the brokers were away.
        client = self.producer.client
        asked: float | None = None
        while not (known := client.cluster.partitions_for_topic(topic)):
            client.add_topic(topic)
            answered = await client.force_metadata_update()
            if client.cluster.partitions_for_topic(topic):
                continue
            if topic in client.cluster.unauthorized_topics:
                client._topics.discard(topic)
                raise TopicAuthorizationFailedError(topic)
            asked = asked or (time.monotonic() if answered else None)
            if asked is not None and asked < _long_ago():
                client._topics.discard(topic)
                raise UnknownTopicOrPartitionError(topic)
            await asyncio.sleep(LOOK_S)
        return len(known)


def _long_ago() -> float:
    return time.monotonic() - MISSING_AFTER_S


def _place(row: Outgoing, counts: Mapping[str, int]) -> TopicPartition:
    count = counts[row.topic]
    return TopicPartition(row.topic, key_hash(row.key) % count if row.key else random.randrange(count))


def _sorted_out(rows: Sequence[Outgoing], codes: Mapping[str, str]) -> tuple[list[Refused], list[Outgoing]]:
    """Refuse what cannot be written: all records of some topics, and a record that is too large, with the later ones of its key."""
    refused: list[Refused] = []
    fitting: list[Outgoing] = []
    large: set[tuple[str, bytes | None]] = set()
    for row in rows:
        if row.topic in codes:
            refused.append(Refused(row, codes[row.topic]))
        elif len(row.value) + 4096 > max_record_bytes(row.topic) or (row.topic, row.key) in large:
            large.add((row.topic, row.key))
            refused.append(Refused(row, TOO_LARGE))
        else:
            fitting.append(row)
    return refused, fitting


def _append(builder: Any, row: Outgoing) -> bool:
    # An empty value is a tombstone.
    added = builder.append(timestamp=None, key=row.key or None, value=row.value or None, headers=list(row.headers))
    return added is not None
