"""Reads the topic `seal.keys`, and opens sealed records with its keys; see `contracts/sealing.py`."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import KafkaError

from contracts import SealKeyChanged, UndecodableRecord, from_record
from contracts.cloudevents import Record
from contracts.sealing import NONCE_BYTES, Aead, KeyDestroyed, SealKeys, is_sealed
from contracts.topics import SEAL_KEYS_TOPIC, holds_content

log = logging.getLogger(__name__)
POLL_MS = 1000
ERROR_PAUSE_S = 1.0
CATCH_UP_S = 30.0
Headers = tuple[tuple[str, bytes], ...]


def aes_gcm(key: bytes) -> Aead:
    """AES-128-GCM. Raises `ImportError` without the package `cryptography`."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)


class RecordSeals:
    """The seal keys of a process. It reads their topic from the first use on; without sealed records it opens no connection.

    A record names its seal key, and the key is on the topic before any record that was sealed with it. So a process that has read the
    topic to its end knows the key of every record, or the key is destroyed. `options` are aiokafka's.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options
        self.keys = SealKeys(aes_gcm)
        self._consumer: AIOKafkaConsumer | None = None
        self._reading: asyncio.Task[None] | None = None
        self._progress = asyncio.Event()
        self._starting = asyncio.Lock()

    async def close(self) -> None:
        """Stop reading."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._consumer is not None:
            await self._consumer.stop()

    async def catch_up(self) -> None:
        """Return when every key that is on the topic now is known. Raises `KafkaError`, and `TimeoutError` after half a minute."""
        async with asyncio.timeout(CATCH_UP_S):
            consumer = await self._running()
            ends = await consumer.end_offsets(list(consumer.assignment()))
            for partition, end in ends.items():
                while await consumer.position(partition) < end:
                    self._progress.clear()
                    await self._progress.wait()

    def seal(self, key: bytes | None, value: bytes, headers: Headers) -> tuple[bytes, Headers] | None:
        """Value and headers of the sealed record; None when the job is erased. Raises `LookupError` while no key is known."""
        return self.keys.seal(key, value, headers, os.urandom(NONCE_BYTES))

    def sealed_records(self, rows: Sequence[tuple[str, Record]]) -> list[tuple[str, Record]]:
        """Records with their topics, sealed where this process has opened sealed records. Those of erased jobs are left out."""
        if self.keys.newest is None:
            return list(rows)
        found = []
        for topic, record in rows:
            if not holds_content(topic):
                found.append((topic, record))
            elif (made := self.seal(record.key, record.value, record.headers)) is not None:
                found.append((topic, Record(record.key, *made)))
        return found

    async def open_records(self, records: Iterable[ConsumerRecord[Any, Any]]) -> None:
        """Open the sealed ones of `records` in place. What stays sealed belongs to an erased job: `from_record` raises `SealedRecord`."""
        for record in records:
            if record.value is not None and is_sealed(record.headers):
                await self._open(record)

    async def _open(self, record: ConsumerRecord[Any, Any]) -> None:
        if not self.keys.knows(record.headers):
            await self._caught_up()
        try:
            value, headers = self.keys.open(record.key, record.value, record.headers)
        except KeyDestroyed:
            return
        record.value, record.headers = value, headers

    async def _caught_up(self) -> None:
        # Records wait here as they do for Kafka itself: a key that cannot be read is not a key that is gone.
        while True:
            try:
                return await self.catch_up()
            except (KafkaError, TimeoutError) as error:
                log.warning("seal keys will be read again: %r", error)
            await asyncio.sleep(ERROR_PAUSE_S)

    async def _running(self) -> AIOKafkaConsumer:
        async with self._starting:
            if self._consumer is None:
                consumer = AIOKafkaConsumer(
                    SEAL_KEYS_TOPIC.name, **self.options, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest",
                    fetch_max_wait_ms=2000,
                )  # fmt: skip
                try:
                    await consumer.start()
                except BaseException:
                    await consumer.stop()
                    raise
                self._consumer = consumer
                self._reading = asyncio.create_task(self._read(consumer), name="seal keys")
            return self._consumer

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            try:
                batch = await consumer.getmany(timeout_ms=POLL_MS)
            except KafkaError as error:
                log.warning("seal keys cannot be read: %r", error)
                await asyncio.sleep(ERROR_PAUSE_S)
                continue
            for records in batch.values():
                self._apply(records)
            self._progress.set()

    def _apply(self, records: Sequence[ConsumerRecord[Any, Any]]) -> None:
        for record in records:
            key_id, _, part = (record.key or b"").decode("utf-8", "replace").rpartition("/")
            try:
                if record.value is None:
                    self.keys.apply(key_id, int(part), None, 0.0)
                    continue
                message = from_record(record.value, record.headers, SEAL_KEYS_TOPIC.types)
                assert isinstance(message, SealKeyChanged)
                self.keys.apply(message.key_id, message.part, message.nodes, message.created_at.timestamp())
            except (UndecodableRecord, ValueError) as error:
                log.error("record %d of seal.keys cannot be read: %s", record.offset, error)
