"""Reads dead letters from their topics, and sends copies to the topics that they came from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError

from contracts.sealing import is_sealed
from services.ingest.core.letters import SUFFIX, Headers, Raw
from shared.errors import Retry
from shared.kafka.acls import NEVER_SENT_AGAIN
from shared.kafka.clients import make_producer
from shared.kafka.connection import KafkaAccess
from shared.kafka.outgoing import Outgoing
from shared.kafka.producer_batches import ProducerBatches
from shared.kafka.refusals import FORBIDDEN
from stageline_kit.record_seals import RecordSeals

PATIENCE_S = 15.0
"""Seconds without a record after which a reading is given up."""
NO_RIGHT = "the gateway's Kafka user may not {0}: give it a user of the role `letters` (STAGELINE_LETTERS_KAFKA_USERNAME)"


class NotPossible(Exception):
    """The letter cannot be read or sent. The text says why, in a sentence."""


class LetterBox:
    """The dead-letter topics of a cluster. Connects when it is first used."""

    def __init__(self, access: Callable[[], KafkaAccess]) -> None:
        self._access = access
        self._producer: AIOKafkaProducer | None = None
        self._seals: RecordSeals | None = None
        self._connecting = asyncio.Lock()

    async def close(self) -> None:
        """Disconnect."""
        if self._producer is not None:
            await self._producer.stop()
        if self._seals is not None:
            await self._seals.close()

    async def scan(self, in_topic: Callable[[str], bool], newest: int | None) -> AsyncIterator[Raw]:
        """The letters of the topics that `in_topic` admits, oldest first by partition: the `newest` of each partition, or all.

        Raises `NotPossible`, and `Retry` when Kafka does not answer.
        """
        async with self._reading() as consumer:
            places = await self._places(in_topic)
            if not places:
                return
            consumer.assign(places)
            begins, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
            for place in places:
                consumer.seek(place, begins[place] if newest is None else max(begins[place], ends[place] - newest))
            async for raw in self._until(consumer, ends):
                yield raw

    async def letter(self, topic: str, partition: int, offset: int) -> Raw | None:
        """One letter; None when there is none at this place (any more). Raises as `scan`."""
        place = TopicPartition(topic, partition)
        async with self._reading() as consumer:
            if place not in await self._places(lambda name: name == topic):
                return None
            consumer.assign([place])
            begin, end = (await consumer.beginning_offsets([place]))[place], (await consumer.end_offsets([place]))[place]
            if not begin <= offset < end:
                return None
            consumer.seek(place, offset)
            async for raw in self._until(consumer, {place: offset + 1}):
                return raw if raw.offset == offset else None
        return None

    async def send(self, raw: Raw, value: bytes, headers: Headers) -> None:
        """Send a copy of a letter to its source and return once Kafka has it. Raises as `scan`."""
        source = raw.source
        if source is None or source.endswith(SUFFIX):
            raise NotPossible("the letter does not say which topic it came from")
        if source in NEVER_SENT_AGAIN:
            raise NotPossible(f"{source} has one author, and nobody else writes it: repeat the act that made the record")
        copy: tuple[bytes, Headers] | None = (value, headers)
        if raw.sealed:
            copy = None if is_sealed(headers) else (await self._opened()).seal(raw.key, value, headers)
        if copy is None:
            raise NotPossible("the record is sealed, and its job is erased")
        producer = await self._started()
        row = Outgoing(source, raw.key, *copy)
        try:
            refused = await ProducerBatches(producer).send([row])
        except KafkaError as error:
            raise _outage(error) from error
        if refused:
            right = NO_RIGHT.format(f"write to {source}")
            raise NotPossible(right if refused[0].code == FORBIDDEN else refused[0].reason)

    async def _places(self, in_topic: Callable[[str], bool]) -> list[TopicPartition]:
        producer = await self._started()
        try:
            cluster = await producer.client.fetch_all_metadata()
        except KafkaError as error:
            raise _outage(error) from error
        topics = sorted(name for name in cluster.topics() if name.endswith(SUFFIX) and in_topic(name))
        return [TopicPartition(name, n) for name in topics for n in sorted(cluster.partitions_for_topic(name) or ())]

    async def _until(self, consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]) -> AsyncIterator[Raw]:
        """Records until each partition has come to its end."""
        open_ = {place for place, end in ends.items() if await consumer.position(place) < end}
        seals = await self._opened()
        while open_:
            batch = await consumer.getmany(*open_, timeout_ms=int(PATIENCE_S * 1000), max_records=200)
            if not batch:
                raise Retry("kafka_unavailable", f"Kafka gave no dead letter for {PATIENCE_S:.0f} s")
            for place, records in batch.items():
                for record in records:
                    if record.offset < ends[place]:
                        yield await _opened_record(record, seals)
            open_ = {place for place in open_ if await consumer.position(place) < ends[place]}

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            group_id=None, enable_auto_commit=False, auto_offset_reset="earliest", **self._access().options
        )
        try:
            await consumer.start()
            yield consumer
        except TopicAuthorizationFailedError as error:
            raise NotPossible(NO_RIGHT.format("read dead letters")) from error
        except KafkaError as error:
            raise _outage(error) from error
        finally:
            await consumer.stop()

    async def _started(self) -> AIOKafkaProducer:
        async with self._connecting:
            if self._producer is None:
                self._producer = await make_producer(self._access(), "stageline-letters")
            return self._producer

    async def _opened(self) -> RecordSeals:
        async with self._connecting:
            if self._seals is None:
                self._seals = RecordSeals(self._access().options)
            return self._seals


async def _opened_record(record: ConsumerRecord[Any, Any], seals: RecordSeals) -> Raw:
    sealed = is_sealed(record.headers)
    await seals.open_records([record])
    headers = tuple((name, value or b"") for name, value in record.headers)
    at, value = record.timestamp / 1000, record.value or b""
    return Raw(record.topic, record.partition, record.offset, at, record.key, value, headers, sealed)


def _outage(error: KafkaError) -> Retry:
    return Retry("kafka_unavailable", f"Kafka does not answer: {error!r}")
